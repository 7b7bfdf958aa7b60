"""Completes one picture in many ways.

    python inpaint.py --checkpoint=DIR --image=P.png --mask=M.png --num_samples=8 --output=OUT

writes `OUT/000.png`, `OUT/001.png`, ... and all of them side by side in `OUT/grid.png`. White in
the mask is the hole; a soft mask is cut at half; a mask with transparency is read from its alpha.
With `--instance=R.png` (once or more often) each completion follows one of the given pictures.
"""

from pathlib import Path

from absl import app, flags, logging

from uctgan_jax import compilation_cache, images
from uctgan_jax.inpainting import Inpainter

_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Workdir of a run, or its checkpoints.")
_IMAGE = flags.DEFINE_string("image", None, "The picture, of any size and format.")
_MASK = flags.DEFINE_string("mask", None, "Its mask, of the same size.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the completions.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 8, "How many completions.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "The same seed gives the same completions.", lower_bound=0)
_INSTANCE = flags.DEFINE_multi_string("instance", [], "A picture to follow, instead of a draw.")
_MASK_CONVENTION = flags.DEFINE_enum(
    "mask_convention", "white_is_hole", images.MASK_CONVENTIONS, "What the mask's white means."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)
    compilation_cache.enable()
    try:
        run()
    except (ValueError, OSError) as error:
        raise SystemExit(f"inpaint.py: {error}") from error


def run() -> None:
    image = images.read_image(_IMAGE.value)
    mask = images.read_mask(_MASK.value, convention=_MASK_CONVENTION.value, size=image.shape[:2])
    instances = [images.read_image(path) for path in _INSTANCE.value]
    output = Path(_OUTPUT.value)
    output.mkdir(parents=True, exist_ok=True)

    inpainter = Inpainter.load(_CHECKPOINT.value)
    completions = inpainter.complete(
        image,
        mask,
        num_samples=_NUM_SAMPLES.value,
        seed=_SEED.value,
        instances=instances or None,
    )
    for number, completion in enumerate(completions):
        images.write_image(output / f"{number:03d}.png", completion)
    grid = images.completion_sheet(image[None], mask[None], completions[None], truth=False)
    images.write_image(output / "grid.png", grid)
    print(f"{len(completions)} completions of {_IMAGE.value} are in {output}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["checkpoint", "image", "mask", "output"])
    app.run(main)
