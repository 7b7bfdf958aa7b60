"""Completes pictures, each in many ways.

One picture:

    python inpaint.py --checkpoint=DIR --image=P.png --mask=M.png --num_samples=8 --output=OUT

writes `OUT/000.png`, `OUT/001.png`, ..., up to 256 of them side by side in `OUT/grid.png`, and
`OUT/scores.json`. White in the mask is the hole, and so is any colour; a mask with transparency is
read from its alpha. Picture and mask may be pipes: `--mask=<(command)`, `--image=/dev/stdin`.

A folder of pictures, each with the mask of its name, or of its name and `_mask`:

    python inpaint.py --checkpoint=DIR --images=DIR --masks=DIR --output=OUT

writes the same for each into `OUT/<name>/`, and `OUT/summary.json`, which also names what was left
out. Without `--masks`, the masks lie beside the pictures as `NAME_mask`; with `--mask=M.png` all
pictures have this one. Started again, it does what is not finished; a picture that fails does not
stop the others. One run at a time writes to a folder. Several machines share the pictures when each
starts this command with the flags of `train.py`: `--distributed` on TPU pods and SLURM, else
`--coordinator_address`, `--num_processes` and `--process_id`.

Exit status: 0 if every picture was completed; 1 if one or more could not be, a folder could not be
read, or the disk was full; 2 for wrong usage: an option, a folder or a checkpoint; 130 if it was
stopped by Ctrl-C.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import jax

from uctgan_jax import images
from uctgan_jax.command_line import (
    are_processes_given,
    forgiving_output,
    join_processes,
    prepare_jax,
    require_device,
)
from uctgan_jax.files import make_writable, read_input, typed_path
from uctgan_jax.inpainting.boundary import is_filled
from uctgan_jax.inpainting.folder_run import (
    SUMMARY,
    check_walk,
    complete_file,
    complete_folder,
    read_pair,
)
from uctgan_jax.inpainting.image_file import read_picture
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.inpainting.pairs import Pairs, pair_files
from uctgan_jax.inpainting.selection import SELECTIONS
from uctgan_jax.picture_folders import describe
from uctgan_jax.processes import together

DONE, PICTURE_FAILED, WRONG_USAGE, STOPPED = 0, 1, 2, 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Says what is wrong in one line, without all the options."""
        self.exit(WRONG_USAGE, f"{self.prog}: {message} (--help shows all options)\n")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=_checkpoint,
        help="workdir of a run, its checkpoints, saved weights, or the name of a bundled model",
    )
    parser.add_argument("--image", type=_path, help="the picture, of any size and format")
    parser.add_argument(
        "--mask", type=_path, help="its mask, of the same size, or that of all --images"
    )
    parser.add_argument("--images", type=_path, help="folder of pictures, at any depth")
    parser.add_argument("--masks", type=_path, help="folder of their masks, under the same names")
    parser.add_argument("--output", required=True, type=_path, help="folder for the completions")
    parser.add_argument("--num_samples", type=int, default=8, help="how many completions of each")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same completions")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="under 1 for completions that are more alike",
    )
    parser.add_argument(
        "--select",
        choices=SELECTIONS,
        help="draw four times as many, and keep the most different, the most real, or both",
    )
    parser.add_argument(
        "--instance",
        action="append",
        default=[],
        type=_path,
        help="a picture to follow, instead of a draw; may be repeated",
    )
    parser.add_argument(
        "--gif",
        nargs="?",
        const=(0, 1),
        type=_two_numbers,
        metavar="A,B",
        help="also write walk.gif: from completion A to B (0 to 1) and back",
    )
    parser.add_argument(
        "--grow",
        type=int,
        default=0,
        help="grow the mask by so many pixels, where it does not cover all that is to go",
    )
    parser.add_argument(
        "--mask_convention",
        choices=images.MASK_CONVENTIONS,
        default="white_is_hole",
        help="what the mask's white means",
    )
    _add_process_flags(parser)
    arguments = parser.parse_args(argv)
    _check_arguments(parser, arguments)
    return arguments


def _add_process_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `command_line.define_process_flags`."""
    processes = parser.add_argument_group("several processes, for --images")
    processes.add_argument("--distributed", action="store_true", help="one of several processes")
    processes.add_argument("--coordinator_address", help="HOST:PORT of process 0")
    processes.add_argument("--num_processes", type=int, help="how many processes there are")
    processes.add_argument("--process_id", type=int, help="which process this is, from 0")


def _check_arguments(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Ends the program if options do not go together, or have no sense."""
    given = {n for n in ("image", "mask", "images", "masks") if getattr(arguments, n) is not None}
    if given not in ({"image", "mask"}, {"images", "masks"}, {"images", "mask"}, {"images"}):
        parser.error(
            "give either --image and --mask, or --images and --masks; --images may also have one"
            " --mask for all, or masks beside its pictures, named NAME_mask"
        )
    if arguments.num_samples < 1:
        parser.error(f"--num_samples={arguments.num_samples} must be at least 1")
    if arguments.seed < 0:
        parser.error(f"--seed={arguments.seed} must be at least 0")
    if not 0 <= arguments.temperature < float("inf"):
        parser.error(f"--temperature={arguments.temperature} must be at least 0, and finite")
    if arguments.grow < 0:
        parser.error(f"--grow={arguments.grow} must be at least 0")
    if arguments.select and arguments.instance:
        parser.error("--select chooses among draws, and --instance asks for no draws: give one")
    try:
        check_walk(arguments.gif, len(arguments.instance) or arguments.num_samples)
    except ValueError as error:
        parser.error(f"--gif: {error}")
    if are_processes_given(arguments) and arguments.images is None:
        parser.error("several processes share the pictures of --images: --image is one picture")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status, having said what is wrong in one line."""
    with forgiving_output():
        return _main(parse_arguments(argv))


def _main(arguments: argparse.Namespace) -> int:
    prepare_jax()
    options = dict(
        num_samples=arguments.num_samples,
        seed=arguments.seed,
        temperature=arguments.temperature,
        select=arguments.select,
        mask_convention=arguments.mask_convention,
        grow=arguments.grow,
        walk=arguments.gif,
    )
    try:
        join_processes(arguments, catch_sigterm=False)
        options["instances"] = [read_input(path) for path in arguments.instance]
        for instance in options["instances"]:
            read_picture(instance)  # now, and not once for every picture that is to follow it
        run = _run_folder if arguments.images else _run_file
        return run(arguments, options)
    except (ValueError, OSError) as error:
        return _fail(error, WRONG_USAGE)
    except KeyboardInterrupt:
        return _fail("stopped; what is finished stays, and a folder goes on from there", STOPPED)


def _run_file(arguments: argparse.Namespace, options: dict) -> int:
    try:  # before the model is loaded, which takes seconds
        image, mask = read_input(arguments.image), read_input(arguments.mask)
        read_pair(image, mask, arguments.mask_convention)
    except (ValueError, OSError) as error:
        return _fail(error, PICTURE_FAILED)
    inpainter = _load(arguments)
    try:
        complete_file(inpainter, image, mask, arguments.output, **options)
    except (ValueError, OSError) as error:
        return _fail(error, PICTURE_FAILED)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        return _fail(f"{arguments.image}: {type(error).__name__}: {error}", PICTURE_FAILED)
    print(f"The completions of {arguments.image} are in {arguments.output}")
    return DONE


def _run_folder(arguments: argparse.Namespace, options: dict) -> int:
    with together("model loaded"):
        pairs = _find_pairs(arguments)
        inpainter = _load(arguments)
    try:
        summary = complete_folder(inpainter, pairs, arguments.output, **options)
    except OSError as error:
        return _fail(error, PICTURE_FAILED)
    if jax.process_index() == 0:
        _tell(summary, pairs, arguments.output / SUMMARY)
    return PICTURE_FAILED if summary["failed"] or summary["stopped"] is not None else DONE


def _find_pairs(arguments: argparse.Namespace) -> Pairs:
    masks = arguments.masks
    if arguments.mask is not None:
        masks = read_input(arguments.mask)
        coverage = images.read_coverage(masks, convention=arguments.mask_convention)
        images.check_hole(is_filled(coverage), masks, convention=arguments.mask_convention)
    return pair_files(arguments.images, masks, arguments.output)


def _tell(summary: dict, pairs: Pairs, path: Path) -> None:
    """Prints what became of the pictures."""
    failed, left_out = summary["failed"], summary["left_out"]
    print(
        f"{summary['completed']} pictures completed, {summary['already_finished']} were finished"
        f" already, {len(failed)} failed: see {path}"
    )
    for name, reason in failed.items():
        print(f"  {name}: {reason}", file=sys.stderr)
    if left_out:
        print(describe([item for item in pairs.left_out if not item.is_lost]), file=sys.stderr)
    if summary["stopped"] is not None:
        _fail(f"the run ended early: {summary['stopped']}", PICTURE_FAILED)


def _load(arguments: argparse.Namespace) -> Inpainter:
    make_writable(arguments.output)
    require_device()
    inpainter = Inpainter.load(arguments.checkpoint)
    inpainter.check_selection(arguments.select)
    return inpainter


def _path(text: str) -> Path:
    """Shells leave the ~ of --output=~/DIR as it is."""
    try:
        return typed_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _checkpoint(text: str) -> str:
    """A path, or the name of a bundled model."""
    return str(_path(text))


def _two_numbers(text: str) -> tuple[int, int]:
    try:
        first, second = (int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be two numbers, as in 0,1") from None
    return first, second


def _fail(error: Exception | str, status: int) -> int:
    line = str(error).partition("\n")[0]
    print(f"inpaint.py: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
