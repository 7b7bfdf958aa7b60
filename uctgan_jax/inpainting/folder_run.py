"""From picture files to folders of completions: one picture, or a whole folder of them.

The completions of a picture are a folder: `000.png`, `001.png` ..., all of them side by side in
`grid.png`, a walk from one to another in `walk.gif` if it is asked for, and `scores.json`. That one
says what all of it was made from. It is written first without the scores and last with them, so it
also tells what is finished.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import queue
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from uctgan_jax.files import make_writable, write_text
from uctgan_jax.images import (
    contact_sheet,
    pictures_by_name,
    read_mask,
    resize,
    write_image,
)
from uctgan_jax.inpainting.animation import write_walk
from uctgan_jax.inpainting.image_file import read_picture, with_completion, write_picture
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.inpainting.interpolation import interpolate

GRID = "grid.png"
WALK = "walk.gif"
SCORES = "scores.json"
SUMMARY = "summary.json"

_WALK_STEPS = 24
_WALK_STEPS_AT_ONCE = 8  # as many as there are completions by default: nothing more to compile
_WALK_SIDES = 256, 512  # pixels: a small picture is enlarged, a large one would be a huge file
# While one picture of a device is computed, others are read or written: encoding PNG is most of the
# work of the host.
_PICTURES_A_DEVICE = 4


def complete_file(
    inpainter: Inpainter,
    image: str | Path,
    mask: str | Path,
    output: str | Path,
    *,
    num_samples: int = 8,
    seed: int = 0,
    temperature: float = 1.0,
    select: str | None = None,
    instances: Sequence[str | Path] = (),
    mask_convention: str = "white_is_hole",
    walk: tuple[int, int] | None = None,
    skip_finished: bool = False,
) -> bool:
    """Completes one picture file and writes the folder of its completions.

    Args:
        inpainter: the model.
        image: the picture, of any size and format; see `picture.read_picture`.
        mask: its mask, of the same size; see `images.read_mask`.
        output: the folder; made if missing. What an earlier run wrote there is removed, and
            nothing else.
        num_samples, seed, temperature, select: as for `Inpainter.complete`.
        instances: pictures to follow, one completion each.
        mask_convention: one of `images.MASK_CONVENTIONS`.
        walk: the numbers of two completions to walk between, there and back.
        skip_finished: do nothing if `output` holds just this already: from the same files, with
            the same model and options.

    Returns:
        Whether there was anything to do.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: a file that is damaged, of the wrong size or would be overwritten, or a value
            out of its range.
    """
    image, mask, output, *instances = (
        Path(path).expanduser() for path in (image, mask, output, *instances)
    )
    names = [_file_name(number) for number in range(len(instances) or num_samples)]
    check_walk(walk, len(names))
    origin = {
        "image": {"file": image.name, "sha256": _file_digest(image)},
        "mask": {"file": mask.name, "sha256": _file_digest(mask)},
        "instances": [{"file": i.name, "sha256": _file_digest(i)} for i in instances],
        "checkpoint": {"step": inpainter.step, "digest": inpainter.digest},
        "guidance": inpainter.networks.guidance,
        "num_samples": len(names),
        "seed": None if instances else int(seed),
        "temperature": None if instances else float(temperature),
        "select": select,
        "mask_convention": mask_convention,
        "walk": None if walk is None else [int(number) for number in walk],
    }
    if skip_finished and _is_finished(output, origin):
        return False
    earlier = _earlier_files(output)
    written = (*names, GRID, *[WALK] * (walk is not None), SCORES)
    replaced = {(output / name).resolve() for name in (*written, *earlier)}
    for path in (image, mask, *instances):
        if path.resolve() in replaced:
            raise ValueError(f"{path} would be overwritten: choose another output than {output}")

    picture = read_picture(image)
    hole = read_mask(mask, convention=mask_convention, size=picture.pixels.shape[:2])
    references = [read_picture(path).pixels for path in instances]
    result = inpainter.complete(
        picture.pixels,
        hole,
        num_samples=num_samples,
        seed=seed,
        temperature=temperature,
        select=select,
        instances=references or None,
    )
    for name in earlier:
        (output / name).unlink(missing_ok=True)
    # So that a later run knows what to remove if this one is broken off.
    _write_scores(output, origin, [None] * len(names))
    for name, completion in zip(names, result.images, strict=True):
        write_picture(output / name, with_completion(picture, completion, hole))
    write_image(output / GRID, _grid(picture.pixels, hole, result.images, references))
    if walk is not None:
        frames = _walk_frames(inpainter, picture.pixels, hole, result.codes[list(walk)])
        write_walk(output / WALK, frames)
    scores = [
        {"file": name, "realism": _json_number(real), "difference": _json_number(different)}
        for name, real, different in zip(names, result.realism, result.difference, strict=True)
    ]
    _write_scores(output, origin, scores)
    return True


def complete_folder(
    inpainter: Inpainter,
    pairs: Mapping[str, tuple[Path, Path]],
    output: str | Path,
    *,
    failed: Mapping[str, str] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Completes many pictures, each into a folder of its own name under `output`.

    Every device works on pictures of its own, in the shapes of the model alone. Pictures that are
    finished are left alone; one that fails does not stop the others.

    Args:
        inpainter: the model, on all devices that are to work.
        pairs: name -> picture and mask, see `pair_files`.
        output: the folder; made if missing.
        failed: pictures that are known to fail, name -> reason, for the summary.
        **options: as for `complete_file`.

    Returns:
        What is also written to `OUTPUT/summary.json`: `completed` and `already_finished`, numbers
        of pictures; `failed`, name -> reason; the `checkpoint`; and the `guidance`.
    """
    output = Path(output).expanduser()
    make_writable(output)
    free: queue.SimpleQueue[Inpainter] = queue.SimpleQueue()
    on_each_device = [inpainter.on_device(device) for device in inpainter.devices]
    for worker in on_each_device * _PICTURES_A_DEVICE:
        free.put(worker)

    def complete(name: str) -> bool:
        worker = free.get()
        try:
            with jax.default_device(worker.devices[0]):  # LPIPS has no device of its own
                return complete_file(
                    worker, *pairs[name], output / name, skip_finished=True, **options
                )
        finally:
            free.put(worker)

    counts, reasons = collections.Counter(), dict(failed or {})
    pool = ThreadPoolExecutor(len(inpainter.devices) * _PICTURES_A_DEVICE)
    try:
        futures = {pool.submit(complete, name): name for name in pairs}
        with tqdm(as_completed(futures), total=len(futures), unit="picture") as progress:
            for future in progress:
                try:
                    counts[future.result()] += 1
                except (OSError, ValueError, MemoryError) as error:
                    reason = str(error) or type(error).__name__
                    reasons[futures[future]] = reason
                    progress.write(f"{futures[future]}: {reason}", file=sys.stderr)
    finally:
        pool.shutdown(cancel_futures=True)
    summary = {
        "completed": counts[True],
        "already_finished": counts[False],
        "failed": dict(sorted(reasons.items())),
        "checkpoint": {"step": inpainter.step, "digest": inpainter.digest},
        "guidance": inpainter.networks.guidance,
    }
    write_text(output / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def pair_files(
    images: str | Path, masks: str | Path, output: str | Path
) -> tuple[dict[str, tuple[Path, Path]], dict[str, str]]:
    """The pictures of a folder and their masks, by name: the relative path without its ending.

    Args:
        images, masks: folders of picture files, at any depth.
        output: where the completions will go.

    Returns:
        name -> picture and mask; and, of pictures without a mask, name -> reason.

    Raises:
        FileNotFoundError: a folder that is missing or holds no pictures.
        ValueError: two files of one name, no pair at all, or one folder inside another, where the
            next run would take completions or masks for pictures.
    """
    images, masks, output = (Path(p).expanduser() for p in (images, masks, output))
    folders = {"images": images, "masks": masks, "output": output}
    for name, folder in folders.items():
        for other_name, other in folders.items():
            if name != other_name and folder.resolve().is_relative_to(other.resolve()):
                raise ValueError(f"{name} ({folder}) must not lie in {other_name} ({other})")
    image_files, mask_files = pictures_by_name(images), pictures_by_name(masks)
    pairs = {n: (file, mask_files[n]) for n, file in image_files.items() if n in mask_files}
    if not pairs:
        raise ValueError(
            f"no picture in {images} has a mask of its name in {masks}: the first picture is"
            f" {next(iter(image_files))!r}, the first mask {next(iter(mask_files))!r}"
        )
    return pairs, {n: f"no mask of this name in {masks}" for n in image_files if n not in pairs}


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
    """Picture, masked picture and completions side by side, under each the reference it follows."""
    rows = [[image, np.where(hole > 0, np.uint8(128), image), *completions]]
    if references:
        blank = np.full((1, 1, 3), 255, np.uint8)
        rows.append([blank, blank, *references])
    labels = ["input", "masked", *(f"{number:03d}" for number in range(len(completions)))]
    return contact_sheet(rows, labels=labels, cell=min(256, max(96, *image.shape[:2])))


def _walk_frames(
    inpainter: Inpainter, image: np.ndarray, hole: np.ndarray, ends: np.ndarray
) -> np.ndarray:
    """Completions on the way from one code to another, at the size of a GIF."""
    longest = max(image.shape[:2])
    scale = min(max(longest, _WALK_SIDES[0]), _WALK_SIDES[1]) / longest
    height, width = (max(1, round(n * scale)) for n in image.shape[:2])
    frames = []
    # A few at a time: of large pictures, only small ones are held together.
    for codes in np.split(interpolate(*ends, _WALK_STEPS), _WALK_STEPS // _WALK_STEPS_AT_ONCE):
        completions = inpainter.complete(image, hole, codes=codes).images
        frames += [resize(completion, height, width) for completion in completions]
    return np.stack(frames)


def _write_scores(
    output: Path, origin: Mapping[str, Any], scores: Sequence[Mapping[str, Any] | None]
) -> None:
    """Writes what the completions of a folder were made from, and their scores or None for each."""
    output.mkdir(parents=True, exist_ok=True)
    write_text(output / SCORES, json.dumps({**origin, "completions": scores}, indent=2) + "\n")


def _is_finished(output: Path, origin: Mapping[str, Any]) -> bool:
    """Whether a folder holds all the completions of this origin."""
    try:
        scores = json.loads((output / SCORES).read_text())
        files = [completion["file"] for completion in scores.pop("completions")]
        files += [GRID] + [WALK] * (origin["walk"] is not None)
        return scores == origin and all((output / file).is_file() for file in files)
    except (OSError, ValueError, LookupError, AttributeError, TypeError):  # also not one of ours
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


@functools.lru_cache(maxsize=64)  # instances are the same for all pictures of a folder
def _digest_of(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _file_digest(path: Path) -> str:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    return _digest_of(path, status.st_size, status.st_mtime_ns)


def _json_number(value: float) -> float | None:
    """JSON has no NaN: what was not measured is null."""
    return float(value) if np.isfinite(value) else None
