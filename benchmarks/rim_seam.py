"""How visible the rim of a hole is, before and after blending: JSON on stdout.

    python -m benchmarks.rim_seam --checkpoint=DIR [--num_pictures=50] [--num_samples=4]

Portraits of the test split, drawn at several sizes from the model's own up, each with a box of 16
to 36 % of its area as hole. `step` is the mean difference of neighbouring pixels of which one is in
the hole and one is known, in levels of 255: in the portrait itself (what a rim without a seam
has), in completions that are only cut along the rim, and in those that `Inpainter.complete` blends.
`error` is the mean difference to the portrait in the hole.
"""

from __future__ import annotations

import argparse
import json
from unittest import mock

import numpy as np
from tqdm import tqdm

from benchmarks.device import device_name
from uctgan_jax import Inpainter, compilation_cache
from uctgan_jax.avatars import dataset as avatars
from uctgan_jax.inpainting import blending

# Times the model's side.
_SCALES = (1, 3, 12)


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


def measure(inpainter: Inpainter, *, side: int, num_pictures: int, num_samples: int) -> dict:
    """The means over portraits of one size."""
    values: dict[str, list[float]] = {}
    for number in tqdm(range(num_pictures), desc=f"{side} px", unit="portrait"):
        image = avatars.render(avatars.sample_attributes("test", number), side)
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
    return {"side": side} | {name: round(float(np.mean(v)), 2) for name, v in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--num_pictures", type=int, default=50)
    parser.add_argument("--num_samples", type=int, default=4)
    args = parser.parse_args()
    compilation_cache.enable()
    inpainter = Inpainter.load(args.checkpoint)
    results = [
        measure(
            inpainter,
            side=scale * inpainter.image_size,
            num_pictures=args.num_pictures,
            num_samples=args.num_samples,
        )
        for scale in _SCALES
    ]
    report = {
        "device": device_name(),
        "checkpoint": {"step": inpainter.step, "digest": inpainter.digest},
        "num_pictures": args.num_pictures,
        "num_samples": args.num_samples,
        "results": results,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
