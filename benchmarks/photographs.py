"""Inpainting on photographs: one table of rows without training, models and other programs.

    python -m benchmarks.photographs --data=folder:PATH [--image_size=64] \\
        [--model=NAME=WORKDIR ...] [--completions=NAME=FOLDER ...] [--best_of_100]

Every row completes the same pictures, whose hole is the square of half the side in the middle, and
is measured by the code of `evaluate.py`: once where a method has one answer, else K = 8 times. A
folder holds another program's K completions of each picture, as `evaluate.py --compare` reads them.
Of the rows without training

- `PatchMatch` (Barnes et al., 2009) is that of the package `pypatchmatch`, in the extra
  `benchmarks`, with patches of 7 x 7 pixels as in its paper.
- `another's pasted in` shows the same place of training pictures in the hole. No figure of the hole
  alone can be much better than this row's, as these are real faces; but they fit nowhere.

`--best_of_100` adds LPIPS to the truth, best of 100, on the first 200 pictures, of every row that
has several answers; of a program's, `--completions_of_100=NAME=FOLDER` has them. All runs on the
first device.

`--output` (out/photographs, which git ignores) gets `photographs.json`, `photographs.md` and
`contact_sheet.png`. The sheet shows the pictures of the data set: of real people, it is not to be
published. Started again, the same command measures only what is new.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import jax
import ml_collections
import numpy as np
from absl import flags

from benchmarks.device import device_name, time_in_turns
from uctgan_jax import command_line
from uctgan_jax.configs import default
from uctgan_jax.data.sources import Source, open_source
from uctgan_jax.evaluation import extractors
from uctgan_jax.evaluation.compare import CompletionsFolder
from uctgan_jax.evaluation.completion import CompletionProtocol, System, TestSet, open_test_set
from uctgan_jax.evaluation.evaluate import Complete, model
from uctgan_jax.evaluation.measure import fill_with_mean_colour
from uctgan_jax.evaluation.provenance import environment
from uctgan_jax.evaluation.shown import complete_pictures
from uctgan_jax.evaluation.summary import DIVERSITY, NUM_NEIGHBOURS
from uctgan_jax.files import held_alone, make_writable, typed_path, write_text
from uctgan_jax.images import contact_sheet, resize_and_crop, write_image
from uctgan_jax.inpainting.inpainter import Inpainter

NUM_SAMPLES = 8  # K
MANY = 100  # completions of each of the first pictures, for the best of so many
NUM_EXAMPLES_OF_MANY = 200
LEAST_SIDE = 16  # pixels
_NUM_SHOWN = 10  # pictures on the contact sheet
_SHOWN_SAMPLES = 3  # completions of each row there

FLAGS = flags.FlagValues()
flags.DEFINE_string("data", None, "The pictures, as folder:PATH.", flag_values=FLAGS, required=True)
flags.DEFINE_enum("split", "test", ["test", "validation"], "Whose pictures.", flag_values=FLAGS)
flags.DEFINE_integer("image_size", 64, "Their side in pixels.", flag_values=FLAGS)
flags.DEFINE_integer(
    "num_examples", None, "Pictures, from the first on; all by default.", flag_values=FLAGS
)
flags.DEFINE_multi_string("model", [], "NAME=WORKDIR; may be repeated.", flag_values=FLAGS)
flags.DEFINE_multi_string("completions", [], "NAME=FOLDER; may be repeated.", flag_values=FLAGS)
flags.DEFINE_bool("best_of_100", False, "Also measure the best of 100.", flag_values=FLAGS)
flags.DEFINE_multi_string(
    "completions_of_100", [], "NAME=FOLDER; may be repeated.", flag_values=FLAGS
)
flags.DEFINE_float("seconds", 30.0, "To time the rows for.", flag_values=FLAGS)
command_line.define_path("output", "out/photographs", "Folder for what is written.", FLAGS)

# From a picture, uint8 [S, S, 3], and its mask, uint8 [S, S, 1], to one completion.
Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        system: completes each picture `num_answers` times.
        num_answers: K, or 1 of a method that has one answer.
        is_method: whether it works its completions out, so that its time tells something.
        of_many: completes each picture `MANY` times; None if it cannot.
    """

    system: System
    num_answers: int = NUM_SAMPLES
    is_method: bool = True
    of_many: System | None = None


def fill_by_opencv(method: int, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """OpenCV's inpainting with radius 3; `method` is one of its constants."""
    return cv2.inpaint(image, mask[..., 0], 3, method)


def fill_by_patchmatch(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """PatchMatch with patches of 7 x 7 pixels; its random search always begins alike."""
    import patchmatch  # of the extra `benchmarks`

    patchmatch.set_random_seed(0)
    return patchmatch.inpaint(image, mask[..., 0], patch_size=3)  # the radius


FILLS: dict[str, Fill] = {
    "mean colour": fill_with_mean_colour,
    "OpenCV Telea": functools.partial(fill_by_opencv, cv2.INPAINT_TELEA),
    "OpenCV Navier-Stokes": functools.partial(fill_by_opencv, cv2.INPAINT_NS),
    "PatchMatch": fill_by_patchmatch,
}


def rows_without_training(train: Source, image_size: int) -> list[Row]:
    """The rows that are always there; `train` are the pictures to paste."""
    versions = [importlib.metadata.version(name) for name in ("pypatchmatch", "numpy")]
    versions += [cv2.__version__, Path(__file__).read_text()]
    rows = [
        Row(System(name, _digest(name, *versions), _one_answer(fill)), num_answers=1)
        for name, fill in FILLS.items()
    ]
    name = "another's pasted in"
    digest = _digest(name, train.name, train.keys, len(train), *versions)
    pasted, of_many = (
        System(name, digest, functools.partial(paste_others, train, image_size, count))
        for count in (NUM_SAMPLES, MANY)
    )
    return [*rows, Row(pasted, is_method=False, of_many=of_many)]


def _one_answer(fill: Fill) -> Complete:
    return lambda images, masks, index: np.stack(
        [fill(*pair)[None] for pair in zip(images, masks, strict=True)]
    )


def paste_others(
    train: Source,
    image_size: int,
    num_samples: int,
    images: np.ndarray,
    masks: np.ndarray,
    index: np.ndarray,
) -> np.ndarray:
    """Training pictures in the hole, drawn by the picture's place in the split alone.

    Not pictures of the same split: the holes of all rows are compared with those.

    Args:
        train: the pictures to paste.
        image_size: S.
        num_samples: K.
        images, masks, index: as for `evaluate.Complete`.
    """
    numbers = [np.random.default_rng(int(i)).integers(len(train), size=num_samples) for i in index]
    others = np.stack([[resize_and_crop(train[n], image_size) for n in row] for row in numbers])
    return np.where(masks[:, None] == 1, others, images[:, None])


def model_row(name: str, workdir: str, config: ml_collections.ConfigDict) -> Row:
    """A model of this project.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: it is for pictures of another side.
    """
    inpainter = Inpainter.load(typed_path(workdir)).on_device(jax.local_devices()[0])
    if inpainter.image_size != config.image_size:
        raise ValueError(
            f"--model={name}={workdir} is a model for {inpainter.image_size} px, but --image_size"
            f" is {config.image_size}."
        )
    system, of_many = (
        System(
            name,
            inpainter.digest,
            model(inpainter, count, config.eval.seed),
            inpainter.reconstruct,
        )
        for count in (NUM_SAMPLES, MANY)
    )
    return Row(system, of_many=of_many)


def folder_row(name: str, folder: str, folder_of_many: str | None, test_set, image_size) -> Row:
    """Another program; errors as `CompletionsFolder`."""

    def system(path: str, num_examples: int, num_samples: int) -> System:
        completions = CompletionsFolder(
            typed_path(path),
            num_examples=num_examples,
            num_samples=num_samples,
            image_size=image_size,
        )
        return System(name, completions.digest, completions.complete)

    of_many = None
    if folder_of_many is not None:
        of_many = system(folder_of_many, num_of_many(test_set.num_examples), MANY)
    return Row(system(folder, test_set.num_examples, NUM_SAMPLES), is_method=False, of_many=of_many)


def measure(
    rows: Sequence[Row],
    config: ml_collections.ConfigDict,
    test_set: TestSet,
    *,
    cache_folder: Path,
    best_of_many: bool,
) -> dict[str, dict[str, Any]]:
    """Row -> `figures` and `sets` as `evaluate` has them, and `lpips_best_of_100` where it is.

    Args:
        rows: what to measure.
        config: of the pictures, holes and counts.
        test_set: the pictures.
        cache_folder: for measurements, held by this process alone.
        best_of_many: whether to measure the best of `MANY`.
    """
    vgg16, report = extractors.vgg16(), {}

    def run(system, pictures: TestSet, extractor: extractors.Extractor | None, **changes) -> dict:
        changed = config.copy_and_resolve_references()
        changed.eval.update(changes)
        protocol = CompletionProtocol(
            changed, pictures, extractor=extractor, cache_folder=cache_folder
        )
        return protocol.measure(system, jax.local_devices()[:1])

    for row in rows:
        part = run(row.system, test_set, vgg16, num_samples=row.num_answers)
        if row.num_answers == 1:
            part["figures"]["diversity"] = dict.fromkeys(DIVERSITY, 0.0)
        kept = ("figures", "sets", "variants", "num_samples")
        report[row.system.name] = {key: part[key] for key in kept}
    if best_of_many:
        count = num_of_many(test_set.num_examples)
        # Few pictures at once: each is completed many times.
        first = TestSet(
            functools.partial(test_set.batches, num_examples=count, batch_size=2), count
        )
        for row in rows:
            if row.of_many is not None:
                # One pair of completions: their diversity is known from K of them.
                part = run(row.of_many, first, None, num_samples=MANY, num_pairs=1)
                best = part["figures"]["samples"]["lpips"]["best_of_k"]
                report[row.system.name]["lpips_best_of_100"] = best
    return report


def num_of_many(num_examples: int) -> int:
    """How many of all pictures are completed `MANY` times."""
    return min(num_examples, NUM_EXAMPLES_OF_MANY)


def time_rows(rows: Sequence[Row], test_set: TestSet, *, seconds: float) -> dict[str, float]:
    """Milliseconds a completion: of one picture, all answers at once, rows in turns."""
    first = next(test_set.batches())
    picture = [first[name][:1] for name in ("image", "mask", "index")]
    calls = {
        row.system.name: functools.partial(row.system.complete, *picture)
        for row in rows
        if row.is_method
    }
    for call in calls.values():
        call()  # compiles
    times = time_in_turns(calls, seconds=seconds)
    return {
        row.system.name: 1e3 * times[row.system.name] / row.num_answers
        for row in rows
        if row.is_method
    }


def make_sheet(rows: Sequence[Row], test_set: TestSet) -> np.ndarray:
    """The first pictures with up to three completions by every row, uint8 [H, W, 3]."""
    shown = range(min(_NUM_SHOWN, test_set.num_examples))
    labels, columns = ["masked", "truth"], []
    for row in rows:
        pictures = complete_pictures(row.system.complete, test_set.batches(), shown)
        images, masks, completions = (
            np.stack(arrays) for arrays in zip(*(pictures[i] for i in shown), strict=True)
        )
        columns = columns or [np.where(masks == 1, np.uint8(128), images), images]
        for k in range(min(row.num_answers, _SHOWN_SAMPLES)):
            labels.append(f"{row.system.name} {k + 1}" if k else row.system.name)
            columns.append(completions[:, k])
    return contact_sheet(list(zip(*columns, strict=True)), labels=labels)


def table(report: Mapping[str, Any]) -> str:
    """The report as Markdown, with one caption."""
    rows = report["rows"]
    cells = {name: _cells(row) for name, row in rows.items()}
    # The best of 100 has a column where it was measured.
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    lines = ["| " + " | ".join(["", *columns]) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in cells.items():
        lines.append(f"| {name} | " + " | ".join(row.get(column, "-") for column in columns) + " |")
    caption = (
        f"{report['data']}, {report['split']} split, {report['image_size']} px, the hole of half"
        f" the side in the middle: N = {report['num_examples']} pictures, K = {NUM_SAMPLES}"
        " completions of each, or the one answer of a method that has no other. FD (VGG16, not"
        " FID), precision and recall: first completions against all originals; LPIPS: AlexNet."
        " Time: one picture, all answers at once, rows in turns,"
        f" {report['device']}. {report['date'][:10]}."
    )
    if any("lpips_best_of_100" in row for row in rows.values()):
        count = num_of_many(report["num_examples"])
        caption += f" Best of {MANY}: the first {count} pictures."
    for name, row in rows.items():
        changed = row["figures"]["known_pixels_changed"]
        if changed:
            caption += (
                f" {name} altered known pixels in {changed} completions, by"
                f" {row['figures']['known_l1']:.4f} on average; they were put back."
            )
    return "\n".join([*lines, "", f"*{caption}*", ""])


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Column -> what stands in it, but for columns that a row has nothing for."""
    figures, sets = row["figures"], row["sets"]
    to_truth, between = figures["samples"]["lpips"], figures["diversity"]
    cells = {
        "FD whole": f"{sets['fd_vgg16']:.1f}",
        "FD hole": f"{sets['fd_vgg16_hole']:.1f}",
        "precision": f"{sets['precision']:.2f}",
        "recall": f"{sets['recall']:.2f}",
        "LPIPS to the truth": f"{to_truth['mean_of_k']:.3f}",
        f"best of {NUM_SAMPLES}": f"{to_truth['best_of_k']:.3f}",
    }
    if "lpips_best_of_100" in row:
        cells[f"best of {MANY}"] = f"{row['lpips_best_of_100']:.3f}"
    cells["LPIPS between completions"] = f"{between['lpips_out']:.3f}"
    cells["the same in the hole"] = f"{between['lpips_hole']:.3f}"
    if figures["reconstruction"] is not None:
        cells["own code, hole PSNR (dB)"] = f"{figures['reconstruction']['hole_psnr']:.1f}"
    if row["ms_a_completion"] is not None:
        cells["ms a completion"] = f"{row['ms_a_completion']:.2f}"
    return cells


def make_config(arguments: flags.FlagValues) -> ml_collections.ConfigDict:
    """The pictures, holes and counts, as `evaluate.py` takes them; errors are ValueErrors."""
    if arguments.image_size < LEAST_SIDE:
        raise ValueError(f"--image_size ({arguments.image_size}) must be at least {LEAST_SIDE}.")
    if arguments.num_examples is not None and arguments.num_examples < 1:
        raise ValueError(f"--num_examples ({arguments.num_examples}) must be at least 1.")
    config = default.get_config()
    config.image_size = arguments.image_size
    config.data.source = arguments.data
    config.mask.kind, config.mask.hole_share = "center", (0.25, 0.25)
    config.eval.num_examples = arguments.num_examples or sys.maxsize
    config.eval.num_pairs = NUM_SAMPLES * (NUM_SAMPLES - 1) // 2  # all of them
    return config


def make_rows(
    arguments: flags.FlagValues, config: ml_collections.ConfigDict, test_set: TestSet
) -> list[Row]:
    """All rows; whatever is wrong with one is an error before any long work.

    Raises:
        ImportError: PatchMatch is not installed.
        ValueError, OSError: a model, a folder or a name that will not do.
    """
    try:
        import patchmatch
    except ImportError as error:
        raise ImportError("PatchMatch needs the extra: pip install '.[benchmarks]'.") from error
    if not patchmatch.patchmatch_available:
        raise ImportError("pypatchmatch was installed without its library: install it anew.")
    train = open_source(config.data.source, split="train", image_size=config.image_size)
    rows = rows_without_training(train, config.image_size)
    models = _named("model", arguments.model)
    folders = _named("completions", arguments.completions)
    of_many = _named("completions_of_100", arguments.completions_of_100)
    names = [row.system.name for row in rows] + [name for name, _ in models + folders]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two rows are called {name!r}: each needs a name of its own.")
    for name, folder in of_many:
        if name not in dict(folders) or not arguments.best_of_100:
            raise ValueError(
                f"--completions_of_100={name}={folder} needs --completions={name}=FOLDER and"
                " --best_of_100."
            )
    rows += [model_row(name, workdir, config) for name, workdir in models]
    for name, folder in folders:
        rows.append(folder_row(name, folder, dict(of_many).get(name), test_set, config.image_size))
    return rows


def _named(option: str, texts: Sequence[str]) -> list[tuple[str, str]]:
    """NAME=PATH as name and path."""
    pairs = []
    for text in texts:
        name, _, path = text.partition("=")
        if not name or not path:
            raise ValueError(f"--{option}={text} must be --{option}=NAME=PATH.")
        pairs.append((name, path))
    return pairs


def _digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def run(arguments: flags.FlagValues) -> None:
    """Measures all rows and writes the table; errors as `make_config` and `make_rows`."""
    config = make_config(arguments)
    output = arguments.output
    make_writable(output)
    test_set = open_test_set(config, arguments.split)
    if test_set.num_examples <= NUM_NEIGHBOURS:
        raise ValueError(
            f"{arguments.data}, {arguments.split}: {test_set.num_examples} pictures are too few:"
            f" precision and recall need more than {NUM_NEIGHBOURS}."
        )
    rows = make_rows(arguments, config, test_set)
    cache_folder = output / "cache"
    cache_folder.mkdir(exist_ok=True)
    with held_alone(cache_folder, busy=f"{output}: another run with this --output is going on"):
        measured = measure(
            rows,
            config,
            test_set,
            cache_folder=cache_folder,
            best_of_many=arguments.best_of_100,
        )
    times = time_rows(rows, test_set, seconds=arguments.seconds)
    report = {
        "data": arguments.data,
        "split": arguments.split,
        "image_size": config.image_size,
        "mask": config.mask.to_dict(),
        "num_examples": test_set.num_examples,
        "num_samples": NUM_SAMPLES,
        "seed": config.eval.seed,
        "device": device_name(),
        "rows": {
            row.system.name: measured[row.system.name]
            | {"digest": row.system.digest, "ms_a_completion": times.get(row.system.name)}
            for row in rows
        },
        **environment(),
    }
    text = table(report)
    write_text(output / "photographs.json", json.dumps(report, indent=2, allow_nan=False) + "\n")
    write_text(output / "photographs.md", text)
    write_image(output / "contact_sheet.png", make_sheet(rows, test_set))
    print(f"{text}\nWrote photographs.json, photographs.md and contact_sheet.png to {output}.")


def main() -> None:
    command_line.run(_run, FLAGS)


def _run() -> None:
    command_line.prepare_jax()
    run(FLAGS)


if __name__ == "__main__":
    main()
