"""Batches for the prior's own steps: what E1 and E2 give, computed once and learned from again.

While the prior learns alone E1 and E2 stand still, and running them costs several times what its
step does. So the first batches are kept as they were encoded, and those after them are made of
their rows in other company: every epoch has all rows once, in an order of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from tqdm import tqdm


def encoded_batches(
    fresh: Iterator[dict[str, np.ndarray]],
    *,
    batch_size: int,
    num_kept: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless batches: `num_kept` fresh ones, then ones of their rows, beginning with `start_step`.

    Everything about a batch follows from the seed and its number. A row keeps its place in the
    batch, so that each process needs its own rows alone; so batches do not depend on processes, or
    on where a run was resumed: then those to be kept that came before are encoded again.

    Args:
      fresh: this process's rows of encoded batches, see `train_step.make_encoder`, from the first
        on, with `index` uint32 [B], positions in the endless stream of examples.
      batch_size: of all processes together.
      num_kept: 1 or more.
      seed: of the order.
      start_step: the number of the first batch wanted.
      process_index, process_count: as for `pipeline.train_batches`.

    Yields:
      Batches like the fresh ones; positions go on as if all were fresh.
    """
    rows = batch_size // process_count
    own = np.arange(process_index * rows, (process_index + 1) * rows)
    kept = []
    again = range(min(start_step, num_kept))
    silent = not again or process_index != 0
    for _ in tqdm(again, desc="encode", unit="batch", disable=silent):
        kept.append(next(fresh))
    for _ in range(len(kept), num_kept):
        kept.append(next(fresh))
        yield kept[-1]
    del fresh  # with the pictures that it may hold
    positions = kept[0]["index"].astype(np.int64)
    for number in itertools.count(max(start_step, num_kept)):
        epoch, place = divmod(number, num_kept)
        sources = _order(batch_size, num_kept, seed, epoch)[own, place].tolist()
        batch = {
            name: np.stack([kept[source][name][row] for row, source in enumerate(sources)])
            for name in kept[0]
            if name != "index"
        }
        yield batch | {"index": (positions + number * batch_size).astype(np.uint32)}


@functools.lru_cache(maxsize=1)  # this epoch's
def _order(batch_size: int, num_kept: int, seed: int, epoch: int) -> np.ndarray:
    """For each place in the batch, which batch its rows come from: int64 [B, num_kept]."""
    in_turn = np.tile(np.arange(num_kept), (batch_size, 1))
    return np.random.default_rng((seed, epoch)).permuted(in_turn, axis=1)
