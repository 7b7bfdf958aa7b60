"""Batches: one grain pipeline for training and evaluation.

A batch is a dict of arrays with leading axis B:
  image     uint8 [B, S, S, 3]   the picture, resized and cropped
  instance  uint8 [B, S, S, 3]   another picture of the source
  mask      uint8 [B, S, S, 1]   1 = hole
  index     int64 [B]            training: position in the endless stream of examples; evaluation:
                                 position in the split

Everything random about an example comes from a generator that grain derives from the seed and the
example's position, so batches do not depend on threads, processes or where a run was resumed.
"""

from collections.abc import Callable, Iterator

import cv2
import grain
import numpy as np

from uctgan_jax.data.mask_folder import MaskFolder, PairedMasks
from uctgan_jax.data.masks import WHOLE, check_mask_options, draw_mask
from uctgan_jax.data.sources import Source
from uctgan_jax.images import resize_and_crop


def train_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    mask_kind: str,
    hole_share: tuple[float, float],
    region: tuple[float, float, float, float] = WHOLE,
    mask_convention: str = "white_is_hole",
    flip: bool,
    seed: int,
    start_step: int = 0,
    num_threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Endless shuffled batches, beginning with the one of `start_step`.

    `batch_size` is that of all processes together. Process p of P gets rows p, p + P, ... of each
    batch: together they get exactly what one process would, in another order (`index` tells).

    Raises: ValueError for an impossible mask, or a batch that does not divide by the processes.
    """
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(
            f"Batch size ({batch_size}) must be positive and divisible by the number of "
            f"processes ({process_count})."
        )
    examples = _examples(
        grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat(),
        source,
        image_size=image_size,
        mask_kind=mask_kind,
        hole_share=hole_share,
        region=region,
        mask_convention=mask_convention,
        flip=flip,
    )
    batches = examples[process_index::process_count].batch(
        batch_size // process_count, drop_remainder=True
    )
    return iter(batches[start_step:].to_iter_dataset(_read_options(num_threads, batch_size)))


def eval_batches(
    source: Source,
    *,
    image_size: int,
    batch_size: int,
    mask_kind: str,
    hole_share: tuple[float, float],
    region: tuple[float, float, float, float] = WHOLE,
    mask_convention: str = "white_is_hole",
    seed: int,
    num_examples: int,
    num_threads: int = 4,
) -> Iterator[dict[str, np.ndarray]]:
    """One pass over the first `num_examples` pictures, or all if there are fewer, in order.

    The last batch may be short. Never flipped. The example at a position does not depend on
    `batch_size` or `num_examples`.

    Raises: ValueError for an impossible mask or a count below 1.
    """
    if batch_size < 1 or num_examples < 1:
        raise ValueError(f"Batch size ({batch_size}) and count ({num_examples}) must be positive.")
    examples = _examples(
        grain.MapDataset.range(len(source)).seed(seed),
        source,
        image_size=image_size,
        mask_kind=mask_kind,
        hole_share=hole_share,
        region=region,
        mask_convention=mask_convention,
        flip=False,
    )
    batches = examples[:num_examples].batch(batch_size)
    return iter(batches.to_iter_dataset(_read_options(num_threads, batch_size)))


def _examples(
    indices: grain.MapDataset,
    source: Source,
    *,
    image_size: int,
    mask_kind: str,
    hole_share: tuple[float, float],
    region: tuple[float, float, float, float],
    mask_convention: str,
    flip: bool,
) -> grain.MapDataset:
    """From picture numbers to examples."""
    if len(source) == 0:
        raise ValueError(f"{source.name} has no pictures.")
    draw = _mask_drawer(
        source,
        image_size=image_size,
        mask_kind=mask_kind,
        hole_share=hole_share,
        region=region,
        mask_convention=mask_convention,
    )

    def example(position_and_index: tuple[int, int], rng: np.random.Generator) -> dict:
        position, i = position_and_index
        # Always all of them, so that one option does not shift another's numbers.
        other = int((i + rng.integers(1, max(2, len(source)))) % len(source))
        flip_image, flip_instance = rng.integers(0, 2, size=2) * flip
        return {
            "image": _flip(resize_and_crop(source[i], image_size), flip_image),
            "instance": _flip(resize_and_crop(source[other], image_size), flip_instance),
            "mask": draw(rng, i, flip_image),
            "index": np.int64(position),
        }

    return indices.map_with_index(lambda position, i: (position, i)).random_map(example)


def _mask_drawer(
    source: Source,
    *,
    image_size: int,
    mask_kind: str,
    hole_share: tuple[float, float],
    region: tuple[float, float, float, float],
    mask_convention: str,
) -> Callable[[np.random.Generator, int, bool], np.ndarray]:
    """What gives the mask of picture i, flipped or not, from the example's generator."""
    kind, _, path = mask_kind.partition(":")
    if kind == "folder":
        masks = MaskFolder(
            path, image_size=image_size, hole_share=hole_share, convention=mask_convention
        )
        return lambda rng, i, flipped: masks.draw(rng)
    if kind == "paired":
        keys = getattr(source, "keys", None)
        paired = PairedMasks(path, keys=keys, image_size=image_size, convention=mask_convention)
        return lambda rng, i, flipped: _flip(paired[i], flipped)
    options = dict(kind=mask_kind, image_size=image_size, hole_share=hole_share, region=region)
    check_mask_options(**options)
    return lambda rng, i, flipped: draw_mask(rng, **options)


def _flip(image: np.ndarray, flipped: bool) -> np.ndarray:
    return cv2.flip(image, 1).reshape(image.shape) if flipped else image  # faster than [:, ::-1]


def _read_options(num_threads: int, batch_size: int) -> grain.ReadOptions:
    # Grain buffers whole batches here: two a thread keep the threads busy.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
