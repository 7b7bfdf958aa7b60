"""Cached latents: what E1 and E2 make of the training pictures, computed once for the prior.

E1 and E2 stand still while the prior learns, and running them costs several times what its step
does. Their outputs are kept, and every epoch has all of them once, in an order of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from uctgan_jax.nets import Networks
from uctgan_jax.parallel import DataParallel
from uctgan_jax.preprocess import normalize
from uctgan_jax.prior import summarize

PyTree = Any
Latents = dict[str, np.ndarray]


def encode(
    networks: Networks, params: PyTree, batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """What the prior learns from, of each picture of a batch.

    Args:
      networks, params: of the finished model.
      batch: patches, `image` uint8 [B, h, w, p*p*3] and `mask` uint8 [B, h, w, p*p], 1 = hole.

    Returns:
      `mean` and `log_variance` float32 [B, Z], of the pictures' own codes, and `condition` float16
      [B, D], see `summarize`.
    """
    image, mask = normalize(batch["image"]), batch["mask"].astype(jnp.float32)
    mean, log_variance = networks.project(params, image)
    condition = summarize(networks.encode(params, image, mask)).astype(jnp.float16)
    return {"mean": mean, "log_variance": log_variance, "condition": condition}


def cache_latents(
    networks: Networks,
    params: PyTree,
    batches: Iterator[Mapping[str, jax.Array]],
    parallel: DataParallel,
    num_batches: int,
) -> Latents:
    """Encodes the first `num_batches` batches: this process's rows, arrays [N, B, ...]."""
    params = parallel.replicate({name: params[name] for name in ("projection", "encoder")})
    compiled = parallel.compile_rows(functools.partial(encode, networks))
    encoded = (compiled(params, batch) for batch in itertools.islice(batches, num_batches))
    # The devices work on one batch while that before it is fetched.
    pairs = itertools.pairwise(itertools.chain(encoded, [None]))
    fetched = (parallel.fetch_rows(rows) for rows, _ in pairs)
    latents: Latents = {}
    silent = jax.process_index() != 0
    for number, rows in enumerate(
        tqdm(fetched, total=num_batches, desc="encode", unit="batch", disable=silent)
    ):
        for name, values in rows.items():
            if name not in latents:
                latents[name] = np.empty((num_batches, *values.shape), values.dtype)
            latents[name][number] = values
    return latents


def latent_batches(
    latents: Latents,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Latents]:
    """Endless batches of cached latents, beginning with that of `start_step`.

    Everything about a batch follows from the seed and its number. A row keeps its place in the
    batch, so that each process needs its own rows alone, and batches do not depend on processes or
    on where a run was resumed.

    Args:
      latents: this process's rows, arrays [N, B / processes, ...].
      batch_size: B, of all processes together.
      seed: of the order.
      start_step: the number of the first batch wanted.
      process_index, process_count: as for `pipeline.train_batches`.

    Yields:
      Rows of `latents`, and `index` uint32, their positions in the endless stream.
    """
    rows = batch_size // process_count
    own = np.arange(process_index * rows, (process_index + 1) * rows)
    num_batches = len(latents["mean"])
    for number in itertools.count(start_step):
        epoch, place = divmod(number, num_batches)
        sources = _order(batch_size, num_batches, seed, epoch)[own, place]
        batch = {name: values[sources, np.arange(rows)] for name, values in latents.items()}
        yield batch | {"index": (own + number * batch_size).astype(np.uint32)}


def gather_conditions(latents: Mapping[str, np.ndarray], batch_size: int, most: int) -> np.ndarray:
    """The conditions of the first `most` pictures, or of all: float16 [M, D], of all processes."""
    from jax.experimental import multihost_utils

    some = latents["condition"][: -(-most // batch_size)]
    if jax.process_count() > 1:
        some = multihost_utils.process_allgather(some)
        some = np.moveaxis(some, 0, 1)
    return some.reshape(-1, some.shape[-1])[:most]


@functools.lru_cache(maxsize=1)  # this epoch's
def _order(batch_size: int, num_batches: int, seed: int, epoch: int) -> np.ndarray:
    """For each place in the batch, which batch its rows come from: int64 [B, num_batches]."""
    in_turn = np.tile(np.arange(num_batches), (batch_size, 1))
    return np.random.default_rng((seed, epoch)).permuted(in_turn, axis=1)
