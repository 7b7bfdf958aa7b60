"""Figures of a whole evaluation from the measurements of its pictures."""

import numpy as np

from uctgan_jax.evaluation.metrics import diversity
from uctgan_jax.evaluation.metrics.frechet import frechet_distance
from uctgan_jax.evaluation.metrics.inception_score import inception_score, modified_inception_score
from uctgan_jax.evaluation.metrics.lpips import MIN_SIZE
from uctgan_jax.evaluation.metrics.manifold import manifold_figures
from uctgan_jax.evaluation.metrics.separability import inception_discriminative_scores

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


def summarise(measurements: list[dict]) -> dict:
    """Averages over pictures of what `measure` gives.

    - `samples`: figure -> `mean_of_k`, the average over all completions, and `best_of_k`, the
      average over pictures of the best completion *by that figure*. The best needs the truth.
    - `reconstruction`, `mean_colour_fill`: figure -> average; `reconstruction` is None where the
      system has none.
    - `diversity`: figure -> average, or None with one completion a picture.
    - `equal_to_truth`: the number of pictures of each sort with an infinite PSNR. Averages of PSNR
      leave them out; an average of none is None.
    - `known_pixels_changed`: the number of completions with altered known pixels; `known_l1`: the
      mean alteration over all completions, in [0, 1].
    - `hole_share`: the hole's part of the area, in (0, 1].

    Raises:
        ValueError: a figure that is not a number.
    """
    singles = ["reconstruction", "mean_colour_fill"]
    figures: dict = {"samples": {}, **{part: {} for part in singles}}
    if measurements[0]["reconstruction"] is None:
        figures["reconstruction"] = None
        singles.remove("reconstruction")
    for name, best in BEST.items():
        values = np.stack([one["samples"][name] for one in measurements])
        figures["samples"][name] = {
            "mean_of_k": _mean(name, values),
            "best_of_k": _mean(name, best(values, axis=1)),
        }
        for part in singles:
            figures[part][name] = _mean(name, [one[part][name] for one in measurements])
    figures["diversity"] = {
        name: _mean(name, [one["diversity"][name] for one in measurements if one["diversity"]])
        for name in DIVERSITY
    }
    figures["equal_to_truth"] = {
        part: int(np.isinf([one[part]["psnr"] for one in measurements]).sum())
        for part in ("samples", *singles)
    }
    figures["known_pixels_changed"] = sum(one["known_changed"] for one in measurements)
    for name in ("known_l1", "hole_share"):
        figures[name] = _mean(name, [one[name] for one in measurements])
    return figures


def by_hole_share(measurements: list[dict]) -> dict[str, dict]:
    """`summarise` for holes of 0-10 %, 10-20 % ... of the area, with the number of pictures.

    Bins without pictures are left out; a share on a border belongs to the bin above it.
    """
    bins: dict[int, list[dict]] = {}
    for one in measurements:
        # Shares are whole pixels over whole pixels; the margin undoes the division's rounding.
        bins.setdefault(min(int(one["hole_share"] * 10 + 1e-9), 9), []).append(one)
    return {
        f"{10 * tenth}-{10 * (tenth + 1)} %": {"num_examples": len(part), **summarise(part)}
        for tenth, part in sorted(bins.items())
    }


def compare_sets(measurements: list[dict], distance: str) -> dict[str, float]:
    """Figures over sets: the first completion of every picture against the truth.

    Args:
        measurements: of pictures, with features.
        distance: the name of the Frechet distance, as "fd_vgg16" or "fid".

    Returns:
        The Frechet distance of whole pictures, and with `_hole` added of the hole's crops. Of whole
        pictures also `precision`, `recall`, `density`, `coverage`, `u_ids` and `p_ids`, and with
        logits `inception_score`, `inception_score_std` and `modified_inception_score`. Only with
        FID's network are these P-IDS and so on; with other features they are proxies.

    Raises:
        ValueError: too few pictures for the k-th neighbour.
    """
    parts = [one["features"] for one in measurements]
    drawn, truth, drawn_hole, truth_hole = (
        np.stack([part[name] for part in parts])
        for name in ("drawn", "truth", "drawn_hole", "truth_hole")
    )
    figures = {
        distance: frechet_distance(drawn, truth),
        f"{distance}_hole": frechet_distance(drawn_hole, truth_hole),
        **manifold_figures(drawn, truth, k=NUM_NEIGHBOURS),
        **inception_discriminative_scores(drawn, truth),
    }
    if parts[0]["logits"] is not None:
        figures |= _inception_scores(np.stack([part["logits"] for part in parts]))
    return figures


def _inception_scores(logits: np.ndarray) -> dict[str, float]:
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    splits = min(NUM_SPLITS, len(probabilities))
    mean, deviation = inception_score(probabilities, num_splits=splits)
    return {
        "inception_score": mean,
        "inception_score_std": deviation,
        "modified_inception_score": modified_inception_score(probabilities),
    }


def _mean(name: str, values) -> float | None:
    """Average over the finite values (None if there is none); only a PSNR may be infinite."""
    values = np.asarray(values, np.float64)
    if np.isnan(values).any() or ("psnr" not in name and np.isinf(values).any()):
        raise ValueError(f"The figure {name!r} is not finite: {values.ravel()[:10]}.")
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def crop_size(same_hole: bool, height: int, width: int) -> int | None:
    """The `size` for `diversity.crop_to_hole`: None where every picture has the same hole."""
    return None if same_hole else max(height, width, MIN_SIZE)


def variants(same_hole: bool, mask: np.ndarray) -> dict[str, str]:
    """The exact definition of each figure, in words; `mask` [H, W, 1] is one of the masks."""
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
        "sets": f"first completions against all originals, {whole}; _hole: {crop}",
        "most diverse, least diverse": "pictures by lpips_hole of their completions",
        "best realism, worst realism": "pictures by the mean lpips of their completions",
        "best_of_k": "per picture the completion best by that figure, chosen with the truth",
    }


def _enlarged(height, width):
    factor = diversity.enlargement(height, width)
    return "" if factor == 1 else f" enlarged {factor} x, every pixel repeated"
