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

import functools
from collections.abc import Iterator

import grain
import numpy as np

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
    flip: bool,
) -> grain.MapDataset:
    """From picture numbers to examples."""
    check_mask_options(kind=mask_kind, image_size=image_size, hole_share=hole_share, region=region)
    if len(source) == 0:
        raise ValueError(f"{source.name} has no pictures.")
    example = functools.partial(
        _example,
        source=source,
        image_size=image_size,
        mask_kind=mask_kind,
        hole_share=tuple(hole_share),
        region=tuple(region),
        flip=flip,
    )
    return indices.map_with_index(lambda position, i: (position, i)).random_map(example)


def _example(
    position_and_index: tuple[int, int],
    rng: np.random.Generator,
    *,
    source: Source,
    image_size: int,
    mask_kind: str,
    hole_share: tuple[float, float],
    region: tuple[float, float, float, float],
    flip: bool,
) -> dict[str, np.ndarray]:
    position, i = position_and_index
    # Drawn in this order, always all of them, so that one option does not shift another's numbers.
    other = int((i + rng.integers(1, max(2, len(source)))) % len(source))
    flips = rng.integers(0, 2, size=2)
    mask = draw_mask(
        rng, kind=mask_kind, image_size=image_size, hole_share=hole_share, region=region
    )
    image, instance = (
        resize_and_crop(source[number], image_size)[:, :: -1 if flip and flipped else 1]
        for number, flipped in zip((i, other), flips, strict=True)
    )
    return {
        "image": np.ascontiguousarray(image),
        "instance": np.ascontiguousarray(instance),
        "mask": mask,
        "index": np.int64(position),
    }


def _read_options(num_threads: int, batch_size: int) -> grain.ReadOptions:
    # Grain buffers whole batches here: two a thread keep the threads busy.
    return grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=2 * num_threads)
