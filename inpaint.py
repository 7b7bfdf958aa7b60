"""Completes one picture in many ways.

    python inpaint.py --checkpoint=DIR --image=P.png --mask=M.png --num_samples=8 --output=OUT

writes `OUT/000.png`, `OUT/001.png`, ... and all of them side by side in `OUT/grid.png`. White in
the mask is the hole; a soft mask is cut at half; a mask with transparency is read from its alpha.
With `--instance=R.png` (once or more often) each completion follows one of the given pictures.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from uctgan_jax import compilation_cache, images
from uctgan_jax.inpainting import Inpainter


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="workdir of a run, or its checkpoints")
    parser.add_argument("--image", required=True, help="the picture, of any size and format")
    parser.add_argument("--mask", required=True, help="its mask, of the same size")
    parser.add_argument("--output", required=True, type=Path, help="folder for the completions")
    parser.add_argument("--num_samples", type=int, default=8, help="how many completions")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same completions")
    parser.add_argument(
        "--instance", action="append", default=[], help="a picture to follow, instead of a draw"
    )
    parser.add_argument(
        "--mask_convention",
        choices=images.MASK_CONVENTIONS,
        default="white_is_hole",
        help="what the mask's white means",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; bad input ends it with one line that says what is wrong."""
    arguments = parse_arguments(argv)
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what we asked for
    compilation_cache.enable()
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        raise SystemExit(f"inpaint.py: {error}") from error


def run(arguments: argparse.Namespace) -> None:
    image = images.read_image(arguments.image)
    mask = images.read_mask(
        arguments.mask, convention=arguments.mask_convention, size=image.shape[:2]
    )
    instances = [images.read_image(path) for path in arguments.instance]
    arguments.output.mkdir(parents=True, exist_ok=True)

    inpainter = Inpainter.load(arguments.checkpoint)
    completions = inpainter.complete(
        image,
        mask,
        num_samples=arguments.num_samples,
        seed=arguments.seed,
        instances=instances or None,
    ).images
    for number, completion in enumerate(completions):
        images.write_image(arguments.output / f"{number:03d}.png", completion)
    grid = images.completion_sheet(image[None], mask[None], completions[None], truth=False)
    images.write_image(arguments.output / "grid.png", grid)
    print(f"{len(completions)} completions of {arguments.image} are in {arguments.output}")


if __name__ == "__main__":
    main()
