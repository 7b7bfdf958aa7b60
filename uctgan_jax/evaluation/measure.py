"""All figures of one picture: its completions against the truth, and against each other."""

from collections.abc import Callable

import numpy as np

from uctgan_jax.evaluation.metrics import diversity, pixel
from uctgan_jax.evaluation.metrics.lpips import lpips_pairs
from uctgan_jax.preprocess import normalize

# From pictures, float32 [B, H, W, 3] in [-1, 1], to features [B, D] and, of a classifier, logits.
Extract = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def measure(
    image, mask, completions, reconstruction, *, pairs, crop_size=None, extract: Extract | None
) -> dict:
    """Measures the completions of one picture, with the known pixels put back.

    Args:
        image: the truth, uint8 [S, S, 3].
        mask: uint8 [S, S, 1], 1 = hole.
        completions: uint8 [K, S, S, 3].
        reconstruction: the completion from the picture's own code, uint8 [S, S, 3], or None.
        pairs: int [P, 2], the completions to compare for diversity, or None.
        crop_size: as `size` of `diversity.crop_to_hole`.
        extract: features for the figures over sets, or None.

    Returns:
        - `samples`, `mean_colour_fill`, `reconstruction` (None without): figure -> [K], [1], [1].
        - `diversity`: figure -> float; empty without pairs.
        - `features`: see `_features`; only with `extract`.
        - `hole_share`: the hole's part of the area, in (0, 1].
        - `known_changed`: the number of completions with altered known pixels.
        - `known_l1`: the mean alteration over all completions, in [0, 1].
    """
    known_errors = np.abs(completions.astype(np.int16) - image)[:, mask[..., 0] == 0]
    completions = np.where(mask == 1, completions, image)
    groups = {"samples": completions, "mean_colour_fill": fill_with_mean_colour(image, mask)[None]}
    if reconstruction is not None:
        groups["reconstruction"] = reconstruction[None]
    truth, drawn = normalize(image[None]), normalize(completions)
    predicted = normalize(np.concatenate(list(groups.values())))
    figures = _against_truth(truth, predicted, mask)
    ends = np.cumsum([len(pictures) for pictures in groups.values()])
    record = {"reconstruction": None}
    for group, end in zip(groups, ends, strict=True):
        rows = slice(end - len(groups[group]), end)
        record[group] = {name: values[rows].tolist() for name, values in figures.items()}
    record["diversity"] = {} if pairs is None else _diversity(drawn, mask, pairs, crop_size)
    if extract is not None:
        first = np.concatenate([truth, drawn[:1]])
        record["features"] = _features(first, mask, crop_size, extract)
    record["hole_share"] = float(mask.mean())
    record["known_changed"] = int(known_errors.any(axis=(1, 2)).sum())
    record["known_l1"] = float(known_errors.mean() / 255) if known_errors.size else 0.0
    return record


def _against_truth(truth, predicted, mask) -> dict[str, np.ndarray]:
    """Figure -> float64 [B], of pictures [B, S, S, 3] against one truth [1, S, S, 3]."""
    repeated = np.repeat(truth, len(predicted), axis=0)
    places = 1 + np.arange(len(predicted))
    to_truth = np.stack([np.zeros_like(places), places], axis=1)
    both = diversity.enlarge(np.concatenate([truth, predicted]))
    figures = {
        "l1": pixel.l1(predicted, repeated),
        "psnr": pixel.psnr(predicted, repeated),
        "ssim": pixel.ssim(predicted, repeated),
        "lpips": lpips_pairs(both, to_truth),
        "hole_l1": pixel.hole_l1(predicted, repeated, mask),
        "hole_psnr": pixel.hole_psnr(predicted, repeated, mask),
    }
    return {name: np.asarray(values, np.float64) for name, values in figures.items()}


def _diversity(drawn, mask, pairs, crop_size) -> dict[str, float]:
    return {
        "lpips_out": diversity.lpips_diversity(drawn, pairs),
        "lpips_hole": diversity.lpips_diversity_in_hole(drawn, mask, pairs, size=crop_size),
        "l1_hole": diversity.l1_diversity_in_hole(drawn, mask, pairs),
    }


def _features(images, mask, crop_size, extract: Extract) -> dict[str, np.ndarray | None]:
    """Features, float32 [D], of the truth and a completion: of the whole and of the hole's crop."""
    features, logits = extract(images)
    crops, _ = extract(diversity.crop_to_hole(images, mask, size=crop_size))
    truth, drawn = np.asarray(features, np.float32)
    truth_hole, drawn_hole = np.asarray(crops, np.float32)
    return {
        "truth": truth,
        "drawn": drawn,
        "truth_hole": truth_hole,
        "drawn_hole": drawn_hole,
        "logits": None if logits is None else np.asarray(logits[1], np.float32),
    }


def fill_with_mean_colour(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The baseline without a model: uint8 [H, W, 3], the hole in the known pixels' mean colour.

    A picture without known pixels becomes mid-grey.
    """
    known = image[mask[..., 0] == 0]
    colour = np.round(known.mean(axis=0)) if len(known) else np.full(3, 128)
    return np.where(mask == 1, colour.astype(np.uint8), image)
