"""What the rim of a hole does to a completion: JSON on stdout.

    python -m benchmarks.rim_seam --checkpoint=DIR [--num_pictures=50] [--num_samples=4]

Portraits of the test split, drawn at 1, 4 and 12 times the model's side.

`seam`: each portrait has a box of 16 to 36 % of its area as hole, and the mask is exact. `step` is
the mean difference of neighbouring pixels of which one is in the hole and one is known, in levels
of 255: in the portrait itself (what a rim without a seam has), in completions that are only cut
along the rim, and in those that `Inpainter.complete` blends. `error` is the mean difference to the
portrait in the hole.

`remains`: a disc of one colour lies on each portrait, and a mask of it that may not cover it
wholly removes it. The same hole is completed with the same seed where there was no disc. Nothing
of the disc may show, so both should be the same. `change` is their mean difference where the mask
covers half a pixel or more; `change_partly`, where it covers less, but something.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from unittest import mock

import cv2
import numpy as np
from absl import flags
from PIL import Image
from tqdm import tqdm

from benchmarks.device import device_name
from uctgan_jax import Inpainter, command_line, compilation_cache
from uctgan_jax.avatars import dataset as avatars
from uctgan_jax.inpainting import blending

FLAGS = flags.FlagValues()
_CHECKPOINT = command_line.define_path(
    "checkpoint", None, "What inpaint.py takes.", FLAGS, required=True
)
_NUM_PICTURES = flags.DEFINE_integer("num_pictures", 50, "How many pictures.", flag_values=FLAGS)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 4, "Completions of each picture.", flag_values=FLAGS
)

# Times the model's side.
_SCALES = (1, 4, 12)


class CutAtRim(blending.RimMatcher):
    """Leaves the generated pixels as they are."""

    def __call__(self, generated: np.ndarray) -> np.ndarray:
        return generated


def rim_step(image: np.ndarray, hole: np.ndarray) -> float:
    """Mean difference of neighbours across the rim: uint8 [H, W, 3] and bool [H, W]."""
    steps = []
    for axis in (0, 1):
        crosses = np.diff(hole.astype(np.int8), axis=axis) != 0
        steps.append(np.abs(np.diff(image.astype(np.float32), axis=axis))[crosses])
    return float(np.concatenate(steps).mean())


def draw_box(rng: np.random.Generator, side: int) -> np.ndarray:
    """A hole over the middle of a portrait: bool [side, side]."""
    area, ratio = rng.uniform(0.16, 0.36), rng.uniform(0.75, 1.33)
    height, width = (round(side * np.sqrt(area * r)) for r in (ratio, 1 / ratio))
    top, left = ((side - length) // 2 for length in (height, width))
    hole = np.zeros((side, side), bool)
    hole[top : top + height, left : left + width] = True
    return hole


@dataclass(frozen=True)
class Removal:
    """How the object's edge looks, and which mask removes it.

    Attributes:
        is_hard: whether each pixel is either the object or not.
        feather: standard deviation in pixels of the Gaussian that softens the edge.
        covers: whether the mask marks every pixel with something of the object wholly. Otherwise
            it is the object's coverage.
        too_tight: by how many pixels the mask is smaller than the object.
        jpeg_quality: what the picture is saved with; None for no loss.
    """

    is_hard: bool = False
    feather: float = 0.0
    covers: bool = False
    too_tight: int = 0
    jpeg_quality: int | None = None


REMOVALS = {
    "covering": Removal(covers=True),
    "antialiased": Removal(),
    "feather_0.5": Removal(feather=0.5),
    "feather_1": Removal(feather=1.0),
    "feather_2": Removal(feather=2.0),
    "jpeg_75": Removal(is_hard=True, jpeg_quality=75),
    "too_tight_1": Removal(is_hard=True, too_tight=1),
    "too_tight_2": Removal(is_hard=True, too_tight=2),
}


def place_object(
    image: np.ndarray, removal: Removal, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A picture with an object on it, and the mask: uint8 [H, W, 3] and uint8 [H, W], 255 = all."""
    side = len(image)
    middle = side * (0.5 + rng.uniform(-0.08, 0.08, 2))
    colour = np.float32(rng.permutation([255, 255 * rng.integers(2), 0]))
    rows, columns = np.ogrid[:side, :side]
    distance = np.hypot(rows + 0.5 - middle[0], columns + 0.5 - middle[1])
    coverage = np.clip(0.195 * side - distance + 0.5, 0, 1).astype(np.float32)
    if removal.is_hard:
        coverage = np.rint(coverage)
    if removal.feather:
        coverage = cv2.GaussianBlur(coverage, (0, 0), removal.feather)
    mask = np.rint(255 * coverage).astype(np.uint8)
    placed = np.rint(image + coverage[..., None] * (colour - image)).astype(np.uint8)
    if removal.covers:
        mask = np.where(coverage > 0, np.uint8(255), np.uint8(0))
    reach = 2 * removal.too_tight + 1
    return placed, cv2.erode(mask, np.ones((reach, reach), np.uint8))


def saved(image: np.ndarray, jpeg_quality: int | None) -> np.ndarray:
    """A picture as it comes out of its file."""
    if jpeg_quality is None:
        return image
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=jpeg_quality)
    return np.asarray(Image.open(file))


def portrait(number: int, side: int) -> np.ndarray:
    """A portrait of the test split: uint8 [side, side, 3]."""
    return avatars.render(avatars.sample_attributes("test", number), side)


def measure_seam(inpainter: Inpainter, *, side: int, num_pictures: int, num_samples: int) -> dict:
    """Step and error with exact masks: means over portraits of one size."""
    values: dict[str, list[float]] = {}
    for number in tqdm(range(num_pictures), desc=f"seam, {side} px", unit="portrait"):
        image = portrait(number, side)
        hole = draw_box(np.random.default_rng(number), side)
        blended = inpainter.complete(image, hole, num_samples, seed=number).images
        with mock.patch.object(blending, "RimMatcher", CutAtRim):
            cut = inpainter.complete(image, hole, num_samples, seed=number).images
        values.setdefault("step_portrait", []).append(rim_step(image, hole))
        for name, completions in (("cut", cut), ("blended", blended)):
            steps = [rim_step(completion, hole) for completion in completions]
            errors = np.abs(completions[:, hole].astype(np.float32) - image[hole])
            values.setdefault(f"step_{name}", []).append(float(np.mean(steps)))
            values.setdefault(f"error_{name}", []).append(float(errors.mean()))
    return {"side": side} | _means(values)


def measure_remains(
    inpainter: Inpainter, removal: Removal, *, side: int, num_pictures: int, num_samples: int
) -> dict:
    """How far an object that is removed changes the completion: means over portraits."""
    values: dict[str, list[float]] = {}
    for number in range(num_pictures):
        image = portrait(number, side)
        placed, mask = place_object(image, removal, np.random.default_rng(number))
        without, removed = (
            inpainter.complete(
                saved(picture, removal.jpeg_quality), mask, num_samples, seed=number
            ).images.astype(np.float32)
            for picture in (image, placed)
        )
        change = np.abs(removed - without).mean(axis=(0, 3))
        values.setdefault("change", []).append(float(change[mask >= 128].mean()))
        partly = (mask > 0) & (mask < 128)
        if partly.any():
            values.setdefault("change_partly", []).append(float(change[partly].mean()))
    return _means(values)


def _means(values: dict[str, list[float]]) -> dict[str, float]:
    return {name: round(float(np.mean(v)), 2) for name, v in values.items()}


def main() -> None:
    compilation_cache.enable()
    inpainter = Inpainter.load(_CHECKPOINT.value)
    sides = [scale * inpainter.image_size for scale in _SCALES]
    counts = dict(num_pictures=_NUM_PICTURES.value, num_samples=_NUM_SAMPLES.value)
    report = {
        "device": device_name(),
        "checkpoint": {"step": inpainter.step, "digest": inpainter.digest},
        **counts,
        "seam": [measure_seam(inpainter, side=side, **counts) for side in sides],
        "remains": [
            {"side": side, "mask": name} | measure_remains(inpainter, removal, side=side, **counts)
            for side in sides
            for name, removal in tqdm(REMOVALS.items(), desc=f"remains, {side} px", unit="mask")
        ],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.run(main, FLAGS)
