"""From picture files to folders of completions: one picture, or a whole folder of them.

The completions of a picture are a folder: `000.png`, `001.png` ..., some of them side by side in
`grid.png`, a walk from one to another in `walk.gif` if it is asked for, and `scores.json`. That one
says what all of it was made from, with digests of what was read and written. It is written first
without the scores and last with them, so it also tells what is finished.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import hashlib
import itertools
import json
import queue
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from uctgan_jax.files import (
    InputFile,
    held_alone,
    make_writable,
    read_input,
    remove_leftovers,
    write_text,
)
from uctgan_jax.images import check_hole, contact_sheet, read_coverage, resize, write_image
from uctgan_jax.inpainting.animation import write_walk
from uctgan_jax.inpainting.boundary import hole_of, is_filled
from uctgan_jax.inpainting.image_file import Picture, read_picture, with_completion, write_picture
from uctgan_jax.inpainting.inpainter import Completions, Inpainter
from uctgan_jax.inpainting.interpolation import interpolate
from uctgan_jax.inpainting.pairs import Pair
from uctgan_jax.processes import gather, together

GRID = "grid.png"
WALK = "walk.gif"
SCORES = "scores.json"
SUMMARY = "summary.json"

_GRID_COLUMNS, _GRID_ROWS = 16, 16  # of completions: a sheet of 4,700 px a side at most
_WALK_STEPS = 24
_WALK_STEPS_AT_ONCE = 8  # as many as there are completions by default: nothing more to compile
_WALK_SIDES = 256, 512  # pixels: a small picture is enlarged, a large one would be a huge file
# While one picture of a device is computed, others are read or written: encoding PNG is most of the
# work of the host.
_PICTURES_A_DEVICE = 4
_DISK_ERRORS = errno.ENOSPC, errno.EDQUOT, errno.EROFS  # other pictures would meet them, too


def complete_file(
    inpainter: Inpainter,
    image: str | Path | InputFile,
    mask: str | Path | InputFile,
    output: str | Path,
    *,
    num_samples: int = 8,
    seed: int = 0,
    temperature: float = 1.0,
    select: str | None = None,
    instances: Sequence[str | Path | InputFile] = (),
    mask_convention: str = "white_is_hole",
    grow: int = 0,
    walk: tuple[int, int] | None = None,
    skip_finished: bool = False,
) -> bool:
    """Completes one picture file and writes the folder of its completions.

    Args:
        inpainter: the model.
        image: the picture, of any size and format; see `image_file.read_picture`.
        mask: its mask, of the same size; see `images.read_coverage`.
        output: the folder; made if missing. What an earlier run wrote there is removed, and
            nothing else.
        num_samples, seed, temperature, select: as for `Inpainter.complete`.
        instances: pictures to follow, one completion each.
        mask_convention: one of `images.MASK_CONVENTIONS`.
        grow: by how many pixels the mask is grown, see `Inpainter.complete`.
        walk: the numbers of two completions to walk between, there and back.
        skip_finished: do nothing if `output` holds just this already: from the same files, with
            the same model and options.

    Returns:
        Whether there was anything to do.

    Raises:
        OSError: a file that is missing or cannot be written, with its path.
        ValueError: a file that is damaged, of the wrong size or would be overwritten, a mask that
            is empty or full, a value out of its range, or an `output` that another run writes to.
    """
    image, mask, *instances = (read_input(path) for path in (image, mask, *instances))
    output = Path(output)
    names = [_file_name(number) for number in range(len(instances) or num_samples)]
    check_walk(walk, len(names))
    options: dict[str, Any] = dict(
        num_samples=len(names),
        seed=int(seed),
        temperature=float(temperature),
        select=select,
        grow=int(grow),
    )
    inputs = image, mask, instances
    origin = _origin(inpainter, *inputs, walk, mask_convention=mask_convention, **options)
    with _held_folder(output):
        if skip_finished and _is_finished(output, origin):
            return False
        written = [*names, GRID, *[WALK] * (walk is not None), SCORES]
        earlier = _earlier_files(output)
        _check_inputs_stay(output, {*written, *earlier}, (image, mask, *instances))
        picture, coverage = read_pair(image, mask, mask_convention)
        hole = hole_of(coverage[..., 0], grow)[..., None]
        references = [read_picture(instance).pixels for instance in instances]
        result = inpainter.complete(
            picture.pixels, coverage, instances=references or None, **options
        )
        frames = None
        if walk is not None:
            ends = result.codes[list(walk)]
            frames = _walk_frames(inpainter, picture.pixels, coverage, grow, ends)
        _remove(output, earlier)
        try:
            # First, so that a later run knows what to remove if this one is broken off.
            _write_scores(output, origin, [None] * len(names), {})
            _write_pictures(output, picture, hole, result.images, references, frames)
            _write_scores(output, origin, _scores(names, result), _digests(output, written[:-1]))
        except OSError:  # A full disk: leave room for the summary.
            _remove(output, written)
            raise
    return True


def _origin(
    inpainter: Inpainter,
    image: InputFile,
    mask: InputFile,
    instances: Sequence[InputFile],
    walk: tuple[int, int] | None,
    **options: Any,
) -> dict[str, Any]:
    """What completions are made from, as `scores.json` holds it."""
    if instances:
        options |= {"seed": None, "temperature": None}  # nothing is drawn
    return {
        "image": _describe(image),
        "mask": _describe(mask),
        "instances": [_describe(instance) for instance in instances],
        **_describe_model(inpainter),
        **options,
        "walk": None if walk is None else [int(number) for number in walk],
    }


def read_pair(
    image: InputFile, mask: InputFile, mask_convention: str
) -> tuple[Picture, np.ndarray]:
    """A picture and how much of each of its pixels the mask covers, uint8 [H, W, 1].

    Raises:
        ValueError: a damaged file, a mask of another size, or one that is empty or full.
    """
    picture = read_picture(image)
    coverage = read_coverage(mask, convention=mask_convention, size=picture.pixels.shape[:2])
    check_hole(is_filled(coverage), mask, convention=mask_convention)
    return picture, coverage


def _write_pictures(
    output: Path,
    picture: Picture,
    hole: np.ndarray,
    completions: np.ndarray,
    references: Sequence[np.ndarray],
    frames: np.ndarray | None,
) -> None:
    for number, completion in enumerate(completions):
        write_picture(output / _file_name(number), with_completion(picture, completion, hole))
    write_image(output / GRID, _grid(picture.pixels, hole, completions, references))
    if frames is not None:
        write_walk(output / WALK, frames)


def complete_folder(
    inpainter: Inpainter, pairs: Iterable[Pair], output: str | Path, **options: Any
) -> dict[str, Any]:
    """Completes many pictures, each into a folder of its own name under `output`.

    Every device works on pictures of its own, in the shapes of the model alone. Pictures that are
    finished are left alone. One that fails, for whatever reason, does not stop the others; only a
    disk that is full does. Several processes take turns: of P, process p has pictures p, P + p ...
    They all write to the same folder, which the first one holds.

    Args:
        inpainter: the model, on all devices of this process that are to work.
        pairs: what `pairs.pair_files` found; any number, gone through once.
        output: the folder; made if missing.
        **options: as for `complete_file`.

    Returns:
        What is also written to `OUTPUT/summary.json`: `completed` and `already_finished`, numbers
        of pictures; `failed`, name -> reason; `left_out`, path -> reason, of files and folders that
        are no pictures to complete; `stopped`, None or why the run ended early; and the
        `checkpoint`. Of all processes, in each.

    Raises:
        OSError: if `output` or the summary cannot be written, or another process has failed.
        ValueError: if another run writes to `output`.
    """
    output, index, count = Path(output), jax.process_index(), jax.process_count()
    with contextlib.ExitStack() as held:
        with together("folder opened"):
            make_writable(output)
            options["instances"] = [read_input(path) for path in options.get("instances", ())]
            if index == 0:
                held.enter_context(_held_folder(output))
                (output / SUMMARY).unlink(missing_ok=True)  # Until this run has come to its end.
        with together("pictures completed"):
            share = itertools.islice(pairs, index, None, count)
            total = len(range(index, len(pairs), count)) if isinstance(pairs, Sized) else None
            counts, failed, stopped = _complete_all(inpainter, share, total, output, options)
        left_out: dict[str, str] = {}
        # All processes have seen the same.
        for item in getattr(pairs, "left_out", ()) if index == 0 else ():
            (failed if item.is_lost else left_out)[str(item.path)] = item.reason
        parts = gather("summaries", [counts[True], counts[False], failed, left_out, stopped])
        completed, finished, failures, lefts, stops = zip(*parts, strict=True)
        summary = {
            "completed": sum(completed),
            "already_finished": sum(finished),
            "failed": dict(sorted(collections.ChainMap(*failures).items())),
            "left_out": dict(sorted(collections.ChainMap(*lefts).items())),
            "stopped": next((reason for reason in stops if reason is not None), None),
            **_describe_model(inpainter),
        }
        with together("summary written"):
            if index == 0:
                write_text(output / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _complete_all(
    inpainter: Inpainter,
    pairs: Iterable[Pair],
    total: int | None,
    output: Path,
    options: Mapping[str, Any],
) -> tuple[collections.Counter[bool], dict[str, str], str | None]:
    """How many were completed and were finished already, why others failed, why it ended early."""
    free: queue.SimpleQueue[Inpainter] = queue.SimpleQueue()
    on_each_device = [inpainter.on_device(device) for device in inpainter.devices]
    for worker in on_each_device * _PICTURES_A_DEVICE:
        free.put(worker)

    def complete(pair: Pair) -> bool:
        if pair.mask is None:
            raise ValueError("no mask of this name")
        if pair.name == SUMMARY:
            raise ValueError(f"the run's own {SUMMARY} has this name: rename the picture")
        worker = free.get()
        try:
            with jax.default_device(worker.devices[0]):  # LPIPS has no device of its own
                return complete_file(
                    worker,
                    pair.image,
                    pair.mask,
                    output / pair.name,
                    skip_finished=True,
                    **options,
                )
        finally:
            free.put(worker)

    counts: collections.Counter[bool] = collections.Counter()
    failed: dict[str, str] = {}
    stopped = None
    slots = len(inpainter.devices) * _PICTURES_A_DEVICE
    pool = ThreadPoolExecutor(slots)
    running: dict[Future[bool], str] = {}
    progress = tqdm(total=total, unit="picture", disable=jax.process_index() > 0)

    def collect(done: Iterable[Future[bool]]) -> None:
        nonlocal stopped
        for future in done:
            name = running.pop(future)
            progress.update()
            try:
                counts[future.result()] += 1
            except Exception as error:  # of this picture alone, unless the disk is full
                failed[name] = _reason(error)
                progress.write(f"{name}: {failed[name]}", file=sys.stderr)
                if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                    stopped = failed[name]

    try:
        for pair in pairs:
            if stopped is not None:
                break
            running[pool.submit(complete, pair)] = pair.name
            if len(running) >= 2 * slots:
                collect(wait(running, return_when=FIRST_COMPLETED).done)
        collect(wait(running).done)
    finally:
        pool.shutdown(cancel_futures=True)
        progress.close()
    return counts, failed, stopped


@contextlib.contextmanager
def _held_folder(output: Path) -> Iterator[None]:
    """The folder of this run alone, without leftovers of killed ones; removed again if empty."""
    output.mkdir(parents=True, exist_ok=True)
    with held_alone(output, busy=f"{output}: another run is writing to this folder"):
        try:
            remove_leftovers(output)
            yield
        finally:
            with contextlib.suppress(OSError):  # It holds something, as it should.
                output.rmdir()


def _check_inputs_stay(output: Path, replaced: Iterable[str], inputs: Iterable[InputFile]) -> None:
    paths = {(output / name).resolve() for name in replaced}
    for file in inputs:
        if file.path.resolve() in paths:
            raise ValueError(
                f"{file.path} would be overwritten: choose another output than {output}"
            )


def check_walk(walk: tuple[int, int] | None, num_completions: int) -> None:
    """Raises a ValueError unless `walk` is None or the numbers of two different completions."""
    if walk is not None and (
        walk[0] == walk[1] or not all(0 <= number < num_completions for number in walk)
    ):
        raise ValueError(
            f"walk ({walk[0]}, {walk[1]}) must be two different numbers of completions, from 0 to"
            f" {num_completions - 1}"
        )


def _grid(
    image: np.ndarray,
    hole: np.ndarray,
    completions: np.ndarray,
    references: Sequence[np.ndarray],
) -> np.ndarray:
    """Picture, masked picture and completions side by side, under each the reference it follows.

    Up to 16 completions a row, and 16 rows; the first row's numbers stand above.
    """
    shown = min(len(completions), _GRID_COLUMNS * _GRID_ROWS)
    columns = min(shown, _GRID_COLUMNS)
    blank = np.full((1, 1, 3), 255, np.uint8)
    rows: list[list[np.ndarray]] = []
    for start in range(0, shown, columns):
        part = slice(start, min(start + columns, shown))
        given = [blank, blank] if rows else [image, np.where(hole > 0, np.uint8(128), image)]
        rows.append([*given, *completions[part]])
        if references:
            rows.append([blank, blank, *references[part]])
    labels = ["input", "masked", *map("{:03d}".format, range(columns))]
    return contact_sheet(rows, labels=labels, cell=min(256, max(96, *image.shape[:2])))


def _walk_frames(
    inpainter: Inpainter, image: np.ndarray, coverage: np.ndarray, grow: int, ends: np.ndarray
) -> np.ndarray:
    """Completions on the way from one code to another, at the size of a GIF."""
    longest = max(image.shape[:2])
    scale = min(max(longest, _WALK_SIDES[0]), _WALK_SIDES[1]) / longest
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    frames = []
    start, end = ends
    walk = interpolate(start, end, _WALK_STEPS)
    # A few at a time: of large pictures, only small ones are held together.
    for codes in np.split(walk, _WALK_STEPS // _WALK_STEPS_AT_ONCE):
        completions = inpainter.complete(image, coverage, grow=grow, codes=codes).images
        frames += [resize(completion, height, width) for completion in completions]
    return np.stack(frames)


def _scores(names: Sequence[str], result: Completions) -> list[dict[str, Any]]:
    return [
        {"file": name, "realism": _json_number(real), "difference": _json_number(different)}
        for name, real, different in zip(names, result.realism, result.difference, strict=True)
    ]


def _write_scores(
    output: Path,
    origin: Mapping[str, Any],
    scores: Sequence[Mapping[str, Any] | None],
    files: Mapping[str, str],
) -> None:
    """Writes what a folder was made from, the scores or None for each, and its files' digests."""
    contents = {**origin, "completions": scores, "files": files}
    write_text(output / SCORES, json.dumps(contents, indent=2) + "\n")


def _is_finished(output: Path, origin: Mapping[str, Any]) -> bool:
    """Whether a folder holds all the completions of this origin, as they were written."""
    try:
        scores = json.loads((output / SCORES).read_text())
        names = [completion["file"] for completion in scores.pop("completions")]
        names += [GRID] + [WALK] * (origin["walk"] is not None)
        files = scores.pop("files")
        return scores == origin and {*files} == {*names} and _digests(output, names) == files
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def _file_name(number: int) -> str:
    return f"{number:03d}.png"


def _earlier_files(output: Path) -> list[str]:
    """What the scores in a folder say was written with them, and at last the scores."""
    try:
        scores = json.loads((output / SCORES).read_text())
        count, walked = len(scores["completions"]), scores["walk"] is not None
    except (OSError, ValueError, LookupError, TypeError):  # none, or not ours
        return []
    return [*map(_file_name, range(count)), GRID, *[WALK] * walked, SCORES]


def _remove(output: Path, names: Iterable[str]) -> None:
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            (output / name).unlink()


def _describe(file: InputFile) -> dict[str, str]:
    return {"file": file.path.name, "sha256": file.sha256}


def _describe_model(inpainter: Inpainter) -> dict[str, Any]:
    return {"checkpoint": {"step": inpainter.step, "digest": inpainter.digest}}


def _digests(output: Path, names: Iterable[str]) -> dict[str, str]:
    digests = {}
    for name in names:
        with (output / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def _reason(error: Exception) -> str:
    """One line that says why a picture failed."""
    text = str(error).partition("\n")[0]
    if isinstance(error, OSError | ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _json_number(value: float) -> float | None:
    """JSON has no NaN: what was not measured is null."""
    return float(value) if np.isfinite(value) else None
