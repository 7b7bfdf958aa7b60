"""Batches: one grain pipeline for training and evaluation.

A batch is a dict of arrays with leading axis B:
  image     uint8 [B, S, S, 3]   the picture, resized and cropped
  instance  uint8 [B, S, S, 3]   another picture of the source; in training only
  mask      uint8 [B, S, S, 1]   1 = hole
  index     int64 [B]            training: position in the endless stream of examples; evaluation:
                                 position in the split

Everything about an example follows from the seed and its position in the stream: every epoch has
its own order, the examples at positions 2k and 2k + 1 are each other's instance, and all else that
is random is row `position` of one endless table of uniform numbers. So batches do not depend on
threads, processes or where a run was resumed. As the order of every epoch is drawn anew, any other
picture is equally likely to be the instance; and as both are in the same batch (unless it is odd),
each picture is decoded once.

Grain's elements are whole batches: its own work on single examples would take longer than decoding
small pictures does.
"""

import functools
from collections.abc import Callable, Iterator

import cv2
import grain
import numpy as np

from uctgan_jax.data.mask_folder import MaskFolder, PairedMasks
from uctgan_jax.data.masks import NUMBERS, MaskOptions, check_mask_options, draw_masks
from uctgan_jax.data.sources import Source
from uctgan_jax.images import resize_and_crop

# Of an example's random numbers the first two are for flips, the others for its mask.
_COLUMNS = (2 + NUMBERS + 3) // 4 * 4  # Philox makes four at a time


def train_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    masks: MaskOptions,
    flip: bool,
    seed: int,
    start_step: int = 0,
    num_threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches, beginning with the one of `start_step`.

    `batch_size` is that of all processes together. Process p of P gets the p-th of P equal parts
    of the rows of each batch: one after the other they are what one process would get.

    Raises: ValueError for an impossible mask, or a batch that does not divide by the processes.
    """
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"Batch size ({batch_size}) must be positive and divisible by the number of "
            f"processes ({process_count})."
        )
    _check_not_empty(source)
    draw = _mask_drawer(source, masks, image_size)
    rows = batch_size // process_count

    def batch(step: int) -> dict[str, np.ndarray]:
        first = step * batch_size + process_index * rows
        positions = np.arange(first, first + rows)
        numbers = _shuffled(positions, len(source), seed)
        others = _shuffled(positions ^ 1, len(source), seed)
        # The two can be the same where one epoch ends and the next begins.
        others[others == numbers] += 1
        others %= len(source)
        random = _random_rows(seed, first, rows)
        flips = (random[:, :2] < 0.5) & flip
        pictures = {}  # each is decoded once
        for i in np.union1d(numbers, others).tolist():
            pictures[i] = resize_and_crop(source[i], image_size)
        return {
            "image": _stack([pictures[i] for i in numbers.tolist()], flips[:, 0]),
            "instance": _stack([pictures[i] for i in others.tolist()], flips[:, 1]),
            "mask": draw(random[:, 2:], numbers, flips[:, 0]),
            "index": positions,
        }

    return _read(batch, range(start_step, 2**40), num_threads)


def eval_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    masks: MaskOptions,
    seed: int,
    num_examples: int,
    num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """One pass over the first `num_examples` pictures, or all if there are fewer, in order.

    The last batch may be short. Never flipped, and without instances. The example at a position
    does not depend on `batch_size` or `num_examples`.

    Raises: ValueError for an impossible mask or a count below 1.
    """
    if batch_size < 1 or num_examples < 1:
        raise ValueError(f"Batch size ({batch_size}) and count ({num_examples}) must be positive.")
    _check_not_empty(source)
    draw = _mask_drawer(source, masks, image_size)
    num_examples = min(num_examples, len(source))

    def batch(step: int) -> dict[str, np.ndarray]:
        numbers = np.arange(step * batch_size, min((step + 1) * batch_size, num_examples))
        still = np.zeros(len(numbers), bool)
        random = _random_rows(seed, step * batch_size, len(numbers))
        pictures = [resize_and_crop(source[i], image_size) for i in numbers.tolist()]
        return {
            "image": _stack(pictures, still),
            "mask": draw(random[:, 2:], numbers, still),
            "index": numbers,
        }

    return _read(batch, range(-(-num_examples // batch_size)), num_threads)


def _read(
    batch: Callable[[int], dict[str, np.ndarray]], steps: range, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of these steps, in order, made ahead of time by several threads."""
    # Two batches a thread keep the threads busy.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    steps = grain.MapDataset.range(steps.start, steps.stop)
    return iter(steps.map(batch).to_iter_dataset(options))


def _check_not_empty(source: Source) -> None:
    if len(source) == 0:
        raise ValueError(f"{source.name} has no pictures.")


def _shuffled(positions: np.ndarray, num_pictures: int, seed: int) -> np.ndarray:
    """The picture numbers at positions of the endless stream: int64 [B]."""
    epochs, within = np.divmod(positions, num_pictures)
    numbers = np.empty_like(positions)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        numbers[here] = _order(num_pictures, seed, epoch)[within[here]]
    return numbers


@functools.lru_cache(maxsize=2)  # this epoch's and the next one's
def _order(num_pictures: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(num_pictures)


def _random_rows(seed: int, first: int, count: int) -> np.ndarray:
    """Rows of the endless table of uniform numbers: float64 [count, _COLUMNS] in [0, 1).

    Philox is a counter-based generator: it makes any row without those before it.
    """
    philox = np.random.Philox(key=seed, counter=first * _COLUMNS // 4)
    return np.random.Generator(philox).random((count, _COLUMNS))


def _stack(pictures: list[np.ndarray], flips: np.ndarray) -> np.ndarray:
    """Pictures [H, W, C], flipped or not, as one array [B, H, W, C]."""
    batch = np.empty((len(pictures), *pictures[0].shape), np.uint8)
    for row, picture, flipped in zip(batch, pictures, flips.tolist(), strict=True):
        if flipped:
            cv2.flip(picture, 1, row)  # faster than [:, ::-1]
        else:
            row[:] = picture
    return batch


def _mask_drawer(
    source: Source, options: MaskOptions, image_size: int
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """What gives the masks of a batch.

    Its arguments are uniform numbers [B, NUMBERS], the numbers of the pictures [B], and which of
    them are flipped [B].
    """
    kind, _, path = options.kind.partition(":")
    files = dict(image_size=image_size, convention=options.convention)
    if kind == "folder":
        folder = MaskFolder(path, hole_share=options.hole_share, **files)
        return lambda random, numbers, flips: np.stack(
            [folder[i] for i in (random[:, 0] * len(folder)).astype(int).tolist()]
        )
    if kind == "paired":
        paired = PairedMasks(path, keys=getattr(source, "keys", None), **files)
        return lambda random, numbers, flips: _stack([paired[i] for i in numbers.tolist()], flips)
    check_mask_options(options, image_size=image_size)
    return lambda random, numbers, flips: draw_masks(random, options, image_size=image_size)
