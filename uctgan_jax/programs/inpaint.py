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

Without a checkout the program is `uctgan-inpaint`.
"""

import math
import sys
from pathlib import Path

import jax
from absl import app, flags

from uctgan_jax import command_line, images
from uctgan_jax.command_line import FAILED, WRONG_USAGE
from uctgan_jax.files import make_writable, read_input
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

_DONE, _STOPPED = 0, 130


class _WalkParser(flags.ArgumentParser):
    def parse(self, argument: str) -> tuple[int, int]:
        try:
            first, second = (int(number) for number in argument.split(","))
        except ValueError:
            raise ValueError("must be two numbers, as in 0,1") from None
        return first, second

    def flag_type(self) -> str:
        return "A,B"


FLAGS = flags.FlagValues()
_CHECKPOINT = command_line.define_path(
    "checkpoint",
    None,
    "Workdir of a run, its checkpoints, saved weights, or the name of a bundled model.",
    FLAGS,
    required=True,
)
_IMAGE = command_line.define_path("image", None, "The picture, of any size and format.", FLAGS)
_MASK = command_line.define_path(
    "mask", None, "Its mask, of the same size, or that of all --images.", FLAGS
)
_IMAGES = command_line.define_path("images", None, "Folder of pictures, at any depth.", FLAGS)
_MASKS = command_line.define_path(
    "masks", None, "Folder of their masks, under the same names.", FLAGS
)
_OUTPUT = command_line.define_path(
    "output", None, "Folder for the completions.", FLAGS, required=True
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 8, "How many completions of each.", lower_bound=1, flag_values=FLAGS
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Same seed, same completions.", lower_bound=0, flag_values=FLAGS
)
_TEMPERATURE = flags.DEFINE_float(
    "temperature", 1.0, "Under 1 for completions that are more alike.", flag_values=FLAGS
)
_SELECT = flags.DEFINE_enum(
    "select",
    None,
    SELECTIONS,
    "Draw four times as many, and keep the most different, the most real, or both.",
    flag_values=FLAGS,
)
_INSTANCE = command_line.define_paths("instance", "A picture to follow, instead of a draw", FLAGS)
_GIF = flags.DEFINE(
    _WalkParser(),
    "gif",
    None,
    "Also write walk.gif: --gif=0,1 goes from completion 0 to 1 and back.",
    flag_values=FLAGS,
)
_GROW = flags.DEFINE_integer(
    "grow",
    0,
    "Grow the mask by so many pixels, where it does not cover all that is to go.",
    lower_bound=0,
    flag_values=FLAGS,
)
_MASK_CONVENTION = flags.DEFINE_enum(
    "mask_convention",
    "white_is_hole",
    images.MASK_CONVENTIONS,
    "What the mask's white means.",
    flag_values=FLAGS,
)
command_line.define_process_flags(FLAGS)
flags.register_validator(
    "temperature",
    lambda temperature: temperature >= 0 and math.isfinite(temperature),
    "must be at least 0, and finite",
    flag_values=FLAGS,
)


def main() -> None:
    command_line.run(_inpaint, FLAGS)


def _inpaint() -> int:
    _check_flags()
    command_line.prepare_jax()
    try:
        command_line.join_processes(FLAGS, catch_sigterm=False)
        instances = [read_input(path) for path in _INSTANCE.value]
        for instance in instances:
            read_picture(instance)  # now, and not once for every picture that is to follow it
        options = dict(
            num_samples=_NUM_SAMPLES.value,
            seed=_SEED.value,
            temperature=_TEMPERATURE.value,
            select=_SELECT.value,
            instances=instances,
            mask_convention=_MASK_CONVENTION.value,
            grow=_GROW.value,
            walk=_GIF.value,
        )
        return _run_file(options) if _IMAGES.value is None else _run_folder(options)
    except (ValueError, OSError) as error:
        return _fail(error, WRONG_USAGE)
    except KeyboardInterrupt:
        return _fail("stopped; what is finished stays, and a folder goes on from there", _STOPPED)


def _check_flags() -> None:
    """Raises a UsageError for flags that do not go together."""
    given = {flag.name for flag in (_IMAGE, _MASK, _IMAGES, _MASKS) if flag.value is not None}
    if given not in ({"image", "mask"}, {"images", "masks"}, {"images", "mask"}, {"images"}):
        raise app.UsageError(
            "give either --image and --mask, or --images and --masks; --images may also have one"
            " --mask for all, or masks beside its pictures, named NAME_mask"
        )
    if _SELECT.value and _INSTANCE.value:
        raise app.UsageError(
            "--select chooses among draws, and --instance asks for no draws: give one"
        )
    try:
        check_walk(_GIF.value, len(_INSTANCE.value) or _NUM_SAMPLES.value)
    except ValueError as error:
        raise app.UsageError(f"--gif: {error}") from error
    if command_line.are_processes_given(FLAGS) and _IMAGES.value is None:
        raise app.UsageError(
            "several processes share the pictures of --images: --image is one picture"
        )


def _run_file(options: dict) -> int:
    try:  # before the model is loaded, which takes seconds
        image, mask = read_input(_IMAGE.value), read_input(_MASK.value)
        _, coverage = read_pair(image, mask, _MASK_CONVENTION.value)
        _warn_if_inverted(is_filled(coverage).mean())
    except (ValueError, OSError) as error:
        return _fail(error, FAILED)
    inpainter = _load()
    try:
        complete_file(inpainter, image, mask, _OUTPUT.value, **options)
    except (ValueError, OSError) as error:
        return _fail(error, FAILED)
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        return _fail(f"{_IMAGE.value}: {type(error).__name__}: {error}", FAILED)
    print(f"The completions of {_IMAGE.value} are in {_OUTPUT.value}")
    return _DONE


def _run_folder(options: dict) -> int:
    with together("model loaded"):
        pairs = _find_pairs()
        inpainter = _load()
    try:
        summary = complete_folder(inpainter, pairs, _OUTPUT.value, **options)
    except OSError as error:
        return _fail(error, FAILED)
    if jax.process_index() == 0:
        _tell(summary, pairs, _OUTPUT.value / SUMMARY)
    return FAILED if summary["failed"] or summary["stopped"] is not None else _DONE


def _find_pairs() -> Pairs:
    masks = _MASKS.value
    if _MASK.value is not None:
        masks = read_input(_MASK.value)
        hole = is_filled(images.read_coverage(masks, convention=_MASK_CONVENTION.value))
        images.check_hole(hole, masks, convention=_MASK_CONVENTION.value)
        _warn_if_inverted(hole.mean())
    return pair_files(_IMAGES.value, masks, _OUTPUT.value)


def _warn_if_inverted(share: float) -> None:
    """Says so if more than half of a picture is hole: few want that, and many invert a mask."""
    if share > 0.5:
        print(
            f"The hole is {share:.0%} of the picture. If the mask is inverted, add"
            f" --mask_convention={images.other_convention(_MASK_CONVENTION.value)}",
            file=sys.stderr,
        )


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
        _fail(f"the run ended early: {summary['stopped']}", FAILED)


def _load() -> Inpainter:
    make_writable(_OUTPUT.value)
    command_line.require_device()
    inpainter = Inpainter.load(_CHECKPOINT.value)
    inpainter.check_selection(_SELECT.value)
    return inpainter


def _fail(error: Exception | str, status: int) -> int:
    return command_line.fail(str(error).partition("\n")[0], status)
