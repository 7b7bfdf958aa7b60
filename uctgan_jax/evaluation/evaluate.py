"""The evaluation loop: measures K completions of every picture, whoever made them."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from uctgan_jax.evaluation.cache import EvaluationCache, digest
from uctgan_jax.evaluation.extractors import Extractor
from uctgan_jax.evaluation.measure import measure
from uctgan_jax.evaluation.metrics import diversity
from uctgan_jax.evaluation.summary import (
    by_hole_share,
    compare_sets,
    crop_size,
    summarise,
    variants,
)

# From images uint8 [B, S, S, 3], masks uint8 [B, S, S, 1] (1 = hole) and the pictures' places in
# the split, int [B], to K completions of each, uint8 [B, K, S, S, 3].
Complete = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# From images and masks to one completion of each, uint8 [B, S, S, 3].
Reconstruct = Callable[[np.ndarray, np.ndarray], np.ndarray]


def evaluate(
    complete: Complete,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    num_samples: int,
    same_hole: bool,
    seed: int = 0,
    num_pairs: int | None = None,
    extractor: Extractor | None = None,
    **options: Any,
) -> tuple[dict, list[dict]]:
    """Measures the K completions of every picture, on as many devices as are given.

    The figures depend neither on the batch size nor on the devices. Every picture is measured by
    itself, as a composite: known pixels that a completion altered are put back, and counted.

    Args:
        complete, num_samples, same_hole, seed, num_pairs, extractor: as for `measure_pictures`.
        batches: likewise; the last may be short.
        **options: the other arguments of `measure_pictures`.

    Returns:
        The report for JSON, and the measurements of every picture (see `measure`). The report has
        `figures` (see `summarise`), `by_hole_share`, `sets` with an extractor (see `compare_sets`),
        `variants` (the exact definitions), `num_examples`, `num_samples`, `num_pairs` and `seed`.

    Raises:
        ValueError: fewer than 1 sample, a mask without a hole, a figure that is not a number, no
            pictures.
    """
    batches = iter(batches)
    first = list(itertools.islice(batches, 1))
    measurements = list(
        measure_pictures(
            complete,
            itertools.chain(first, batches),
            batch_size=len(first[0]["mask"]) if first else 0,
            num_samples=num_samples,
            same_hole=same_hole,
            seed=seed,
            num_pairs=num_pairs,
            extractor=extractor,
            **options,
        )
    )
    if not measurements:
        raise ValueError("There were no pictures to evaluate.")
    report = {
        "figures": summarise(measurements),
        "by_hole_share": by_hole_share(measurements),
        "variants": variants(same_hole, first[0]["mask"][0]),
        "num_examples": len(measurements),
        "num_samples": num_samples,
        "num_pairs": _count_pairs(num_samples, num_pairs) or 0,
        "seed": seed,
    }
    if extractor is not None:
        report["sets"] = compare_sets(measurements, extractor.name)
    return report, measurements


def measure_pictures(
    complete: Complete,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    batch_size: int,
    num_examples: int,
    num_samples: int,
    same_hole: bool,
    reconstruct: Reconstruct | None = None,
    seed: int = 0,
    num_pairs: int | None = None,
    extractor: Extractor | None = None,
    cache: EvaluationCache | None = None,
    devices: Sequence[jax.Device],
    name: str = "evaluate",
) -> Iterator[dict]:
    """Yields the measurement of every picture, in order; errors as `evaluate`.

    Args:
        complete: gives the completions, see `model`; or `CompletionsFolder.complete`.
        batches: dicts of image uint8 [B, S, S, 3], mask uint8 [B, S, S, 1] (1 = hole) and index
            int [B].
        batch_size: what is completed at once; shorter batches are filled up.
        num_examples: the number of pictures in the batches, for the progress bar.
        num_samples: K.
        same_hole: whether every picture has the same hole. It decides how the hole is cropped, see
            `diversity.crop_to_hole`.
        reconstruct: completes pictures with the code of the picture itself, if the system can.
        seed: of the choice of pairs.
        num_pairs: pairs of completions of each picture for the diversity; all by default.
        extractor: features for the figures over sets; without it there are none.
        cache: holds measurements of an earlier evaluation, and gets the new ones.
        devices: to measure on, each a picture at a time.
        name: of what is measured, for the progress bar.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples ({num_samples}) must be at least 1.")
    # An impossible number of pairs is refused before the long work.
    num_pairs = _count_pairs(num_samples, num_pairs)
    loop = _Loop(
        complete, reconstruct, num_samples, num_pairs, seed, same_hole, extractor, cache, devices
    )
    is_shown = jax.process_index() == 0
    with (
        tqdm(total=num_examples, desc=name, unit="picture", disable=not is_shown) as progress,
        ThreadPoolExecutor(len(devices)) as threads,
    ):
        progress.set_postfix_str("the first batch compiles")
        for batch in batches:
            for one in loop.measure_batch(batch, batch_size, threads):
                yield one
                progress.set_postfix_str("", refresh=False)
                progress.update()


def _count_pairs(num_samples: int, num_pairs: int | None) -> int | None:
    """How many pairs of completions are compared; None where there is one completion."""
    return len(diversity.select_pairs(num_samples, num_pairs)) if num_samples > 1 else None


@dataclasses.dataclass(frozen=True)
class _Loop:
    """What stays the same from batch to batch; the fields are arguments of `measure_pictures`."""

    complete: Complete
    reconstruct: Reconstruct | None
    num_samples: int
    num_pairs: int | None
    seed: int
    same_hole: bool
    extractor: Extractor | None
    cache: EvaluationCache | None
    devices: Sequence[jax.Device]

    def measure_batch(self, batch, batch_size: int, threads: ThreadPoolExecutor):
        """Yields the measurement of every picture of a batch, in order."""
        images, masks, index = batch["image"], batch["mask"], batch["index"]
        _check_holes(masks, index)
        inputs = [digest(*pair) for pair in zip(images, masks, strict=True)]
        cached = [self._cached(*key) for key in zip(index, inputs, strict=True)]
        todo = [row for row, measurement in enumerate(cached) if measurement is None]
        tasks = {}
        if todo:
            rows = filled(todo, batch_size)
            completions = self.complete(images[rows], masks[rows], index[rows])
            own = self.reconstruct and self.reconstruct(images[rows], masks[rows])
            for place, row in enumerate(todo):
                tasks[row] = threads.submit(
                    self._measure_on,
                    self.devices[place % len(self.devices)],
                    int(index[row]),
                    images[row],
                    masks[row],
                    completions[place],
                    None if own is None else own[place],
                )
        for row, measurement in enumerate(cached):
            if measurement is None:
                measured = tasks[row].result()
                measurement = {"index": int(index[row]), "inputs": inputs[row], **measured}
                if self.cache is not None:
                    self.cache.add(measurement)
            yield measurement

    def _cached(self, index, inputs: str) -> dict | None:
        return None if self.cache is None else self.cache.get(int(index), inputs)

    def _measure_on(self, device: jax.Device, index: int, image, mask, completions, own) -> dict:
        """`measure` with all its arrays on one device."""
        pairs = None
        if self.num_samples > 1:
            pairs = diversity.select_pairs(self.num_samples, self.num_pairs, (self.seed, index))
        size = crop_size(self.same_hole, *image.shape[:2])
        extract = None if self.extractor is None else self.extractor.extract
        with jax.default_device(device):
            return measure(
                image, mask, completions, own, pairs=pairs, crop_size=size, extract=extract
            )


def _check_holes(masks: np.ndarray, index: np.ndarray) -> None:
    without_hole = index[~masks.any(axis=(1, 2, 3))]
    if len(without_hole):
        raise ValueError(
            f"the mask of picture {without_hole[0]} of the split has no hole in the square"
            " that is completed: give it one"
        )


def filled(rows: list[int], batch_size: int) -> list[int]:
    """The rows and the last one repeated: with one batch size nothing is compiled twice."""
    return rows + rows[-1:] * (batch_size - len(rows))


def model(inpainter, num_samples: int, seed: int) -> Complete:
    """A trained model's completions; those of picture i use the key `fold_in(key(seed), i)`."""
    return lambda images, masks, index: inpainter.sample(
        images, masks, picture_keys(seed, index), num_samples
    )


def picture_keys(seed: int, index) -> jax.Array:
    """One key a picture, [B], from the seed and the picture's place in the split alone."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), np.asarray(index))
