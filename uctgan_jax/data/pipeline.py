"""Batches: one grain pipeline for training and evaluation.

A batch is a dict of arrays with leading axis B:
  image     uint8 [B, S, S, 3]   the picture, resized and cropped
  instance  uint8 [B, S, S, 3]   another picture of the source; in training only
  mask      uint8 [B, S, S, 1]   1 = hole
  index     int64 [B]            training: position in the endless stream of examples; evaluation:
                                 position in the split
Training can have its pictures and masks as patches, [B, S/p, S/p, p*p*C], as the step takes them:
folding is a job for the threads that read, as accelerators are slow at moving single bytes.

Everything about an example follows from the seed and its position in the stream: every epoch has
its own order, the examples at positions 2k and 2k + 1 are each other's instance, and all else that
is random is row `position` of one endless table of uniform numbers. So batches do not depend on
threads, processes or where a run was resumed. As the order of every epoch is drawn anew, any other
picture is equally likely to be the instance; and as both are in the same batch (unless it is odd),
each picture is decoded once.

Grain's elements are whole batches: its own work on single examples would take longer than decoding
small pictures does.
"""

import collections
import functools
import sys
import threading
from collections.abc import Callable, Iterator

import cv2
import grain
import numpy as np

from uctgan_jax.data.mask_folder import MaskFolder, PairedMasks
from uctgan_jax.data.masks import NUMBERS, MaskOptions, check_mask_options, draw_masks
from uctgan_jax.data.sources import Source
from uctgan_jax.images import resize_and_crop

NewArray = Callable[[tuple[int, ...], type], np.ndarray]  # of a shape and dtype, as np.empty

# Of an example's random numbers the first two are for flips, the others for its mask.
_COLUMNS = (2 + NUMBERS + 3) // 4 * 4  # Philox makes four at a time
_ZOOM_COLUMNS = 8  # for the zoom of the picture and of its instance, in a table of their own


def train_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    masks: MaskOptions,
    flip: bool,
    seed: int,
    zoom: float = 1.0,
    start_step: int = 0,
    patch_size: int = 1,
    num_threads: int = 4,
    cache_bytes: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches, beginning with the one of `start_step`.

    With `zoom` over 1, half of the pictures are cut to a square anywhere in them and enlarged by up
    to so much; they are read at `zoom` times the side, so that nothing is blurred by it.
    `patch_size` p must divide `image_size`. As many pictures as fit into `cache_bytes` stay in
    memory as they were read. `batch_size` is that of all processes together. Process p of P gets
    the p-th of P equal parts of the rows of each batch: one after the other they are what one
    process would get.

    Raises: ValueError for an impossible mask or zoom, a batch that does not divide by the
    processes, or a side that does not divide by the patches.
    """
    if patch_size < 1 or image_size % patch_size:
        raise ValueError(f"Picture side ({image_size}) must be a multiple of {patch_size=}.")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"Batch size ({batch_size}) must be positive and divisible by the number of "
            f"processes ({process_count})."
        )
    if zoom < 1:
        raise ValueError(f"zoom ({zoom}) must be 1 or more")
    _check_not_empty(source)
    draw = _mask_drawer(source, masks, image_size, zoom)
    rows = batch_size // process_count
    read_size = round(zoom * image_size)
    read = _reader(source, read_size, cache_bytes)
    new_array = _ArrayPool(9 * num_threads + 12)

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
        zooms = _random_rows(seed, first, rows, table=1, columns=_ZOOM_COLUMNS)
        squares = _squares(zooms.reshape(rows, 2, 4), read_size, image_size)
        pictures = np.stack([numbers, others])
        image, instance = _read_pictures(
            read, pictures, flips.T, squares.swapaxes(0, 1), image_size, new_array
        )
        mask = draw(random[:, 2:], numbers, flips[:, 0], new_array)
        return {
            "image": _to_patches(image, patch_size, new_array),
            "instance": _to_patches(instance, patch_size, new_array),
            "mask": _to_patches(mask, patch_size, new_array),
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
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """One pass over the first `num_examples` pictures, or all if there are fewer, in order.

    The last batch may be short. Never flipped, and without instances. The example at a position
    does not depend on `batch_size` or `num_examples`. Process p of P gets batches p, P + p ...: the
    same ones as a single process.

    Raises: ValueError for an impossible mask or a count below 1.
    """
    if batch_size < 1 or num_examples < 1:
        raise ValueError(f"Batch size ({batch_size}) and count ({num_examples}) must be positive.")
    _check_not_empty(source)
    draw = _mask_drawer(source, masks, image_size)
    read = _reader(source, image_size)
    num_examples = min(num_examples, len(source))

    def batch(step: int) -> dict[str, np.ndarray]:
        numbers = np.arange(step * batch_size, min((step + 1) * batch_size, num_examples))
        still = np.zeros(len(numbers), bool)
        whole = np.full((1, len(numbers), 3), (0, 0, image_size))
        random = _random_rows(seed, step * batch_size, len(numbers))
        (image,) = _read_pictures(read, numbers[None], still[None], whole, image_size, np.empty)
        return {
            "image": image,
            "mask": draw(random[:, 2:], numbers, still, np.empty),
            "index": numbers,
        }

    num_batches = -(-num_examples // batch_size)
    return _read(batch, range(process_index, num_batches, process_count), num_threads)


def _read(
    batch: Callable[[int], dict[str, np.ndarray]], steps: range, num_threads: int
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of these steps, in order, made ahead of time by several threads."""
    # Two batches a thread keep the threads busy.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
    steps = grain.MapDataset.range(steps.start, steps.stop, steps.step)
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


def _random_rows(
    seed: int, first: int, count: int, *, table: int = 0, columns: int = _COLUMNS
) -> np.ndarray:
    """Rows of an endless table of uniform numbers: float64 [count, columns] in [0, 1).

    Philox is a counter-based generator: it makes any row without those before it.
    """
    philox = np.random.Philox(key=(table << 64) + seed, counter=first * columns // 4)
    return np.random.Generator(philox).random((count, columns))


def _squares(random: np.ndarray, read_size: int, image_size: int) -> np.ndarray:
    """Which part of each picture is used: top, left and side, int64 [..., 3].

    Args:
      random: uniform numbers, [..., 4].
      read_size: side of pictures as they are read.
      image_size: side of the smallest part.
    """
    # Half of the pictures stay whole.
    zoom = np.maximum(1, 1 + (read_size / image_size - 1) * (2 * random[..., :1] - 1))
    sides = np.maximum(image_size, np.round(read_size / zoom)).astype(int)
    corners = (random[..., 1:3] * (read_size - sides + 1)).astype(int)
    return np.concatenate([corners, sides], axis=-1)


def _reader(source: Source, size: int, cache_bytes: int = 0) -> Callable[[int], np.ndarray]:
    """What gives picture i as uint8 [size, size, 3]; as many of the first as fit are kept."""
    num_kept = min(cache_bytes // (3 * size**2), len(source))
    # Memory is taken where it is first written to.
    kept = np.empty((num_kept, size, size, 3), np.uint8)
    is_kept = np.zeros(num_kept, bool)

    def read(i: int) -> np.ndarray:
        if i < num_kept and is_kept[i]:
            return kept[i]
        picture = resize_and_crop(source[i], size)
        if i < num_kept:
            kept[i] = picture
            is_kept[i] = True  # behind it: another thread may be reading
        return picture

    return read


def _read_pictures(
    read: Callable[[int], np.ndarray],
    numbers: np.ndarray,
    flips: np.ndarray,
    squares: np.ndarray,
    image_size: int,
    new_array: NewArray,
) -> list[np.ndarray]:
    """Squares of pictures, flipped or not, each picture read once however often it is needed.

    `numbers` and `flips` are [N, B], `squares` [N, B, 3] as `_squares` gives them; the result is N
    arrays uint8 [B, S, S, 3].
    """
    shape = (numbers.shape[1], image_size, image_size, 3)
    batches = [new_array(shape, np.uint8) for _ in numbers]
    places = collections.defaultdict(list)
    for batch, *columns in zip(batches, numbers, flips, squares, strict=True):
        for row, i, flipped, square in zip(batch, *(c.tolist() for c in columns), strict=True):
            places[i].append((row, flipped, square))
    for i, wanted in places.items():
        picture = read(i)
        for row, flipped, (top, left, side) in wanted:
            part = picture[top : top + side, left : left + side]
            _put(row, resize_and_crop(part, image_size), flipped)
    return batches


def _put(row: np.ndarray, picture: np.ndarray, flipped: bool) -> None:
    if flipped:
        cv2.flip(picture, 1, row)  # faster than [:, ::-1]
    else:
        row[:] = picture


def _to_patches(pictures: np.ndarray, patch_size: int, new_array: NewArray) -> np.ndarray:
    """Folds pixels into channels, uint8 [B, S, S, C] -> [B, S/p, S/p, p*p*C].

    The numbers of `nets.blocks.space_to_depth`, in half its time: a patch's row is moved at once,
    into memory that is used again.
    """
    if patch_size == 1:
        return pictures
    size, side, _, channels = pictures.shape
    rows = side // patch_size
    run = np.dtype((np.void, patch_size * channels))
    patches = new_array((size, rows, rows, patch_size**2 * channels), np.uint8)
    runs = patches.view(run).swapaxes(2, 3)  # [B, rows, p, rows]
    runs[:] = pictures.reshape(size, rows, patch_size, -1).view(run)
    return patches


def _mask_drawer(
    source: Source, options: MaskOptions, image_size: int, zoom: float = 1.0
) -> Callable[[np.ndarray, np.ndarray, np.ndarray, NewArray], np.ndarray]:
    """What gives the masks of a batch.

    Its arguments are uniform numbers [B, NUMBERS], the numbers of the pictures [B], which of them
    are flipped [B], and what makes the array.
    """
    check_mask_options(options, image_size=image_size, zoom=zoom)
    kind, _, path = options.kind.partition(":")
    files = dict(image_size=image_size, convention=options.convention)
    if kind == "folder":
        folder = MaskFolder(path, hole_share=options.hole_share, **files)

        def draw(random, numbers, flips, new_array):
            masks = new_array((len(random), image_size, image_size, 1), np.uint8)
            for row, i in zip(
                masks, (random[:, 0] * len(folder)).astype(int).tolist(), strict=True
            ):
                row[:] = folder[i]
            return masks

    elif kind == "paired":
        paired = PairedMasks(path, keys=getattr(source, "keys", None), **files)

        def draw(random, numbers, flips, new_array):
            masks = new_array((len(random), image_size, image_size, 1), np.uint8)
            for row, i, flipped in zip(masks, numbers.tolist(), flips.tolist(), strict=True):
                _put(row, paired[source.stand_in(i)], flipped)
            return masks

    else:

        def draw(random, numbers, flips, new_array):
            masks = new_array((len(random), image_size, image_size, 1), np.uint8)
            return draw_masks(random, options, image_size=image_size, out=masks)

    return draw


class _ArrayPool:
    """Makes arrays, the first `size` of them again and again when nobody else has them any more.

    Fresh memory has to be found and cleared by the operating system, page by page: for batches of
    256 px pictures that takes about as long as decoding them.
    """

    def __init__(self, size: int):
        self._size = size
        self._arrays: list[np.ndarray] = []
        self._lock = threading.Lock()

    def __call__(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
        """An array of this shape and type with any contents."""
        with self._lock:
            for i in range(len(self._arrays)):
                if sys.getrefcount(self._arrays[i]) == _UNUSED:
                    array = self._arrays[i]
                    if array.shape == shape and array.dtype == dtype:
                        return array
            array = np.empty(shape, dtype)
            if len(self._arrays) < self._size:
                self._arrays.append(array)
            return array


# The reference count of an array that only the pool has; views of it count too.
_ALONE = [np.empty(0)]
_UNUSED = sys.getrefcount(_ALONE[0])
