"""Blending a completion into its picture, inside the hole only.

What a model returns for the known pixels around a hole differs from them, in colour above all: cut
at the rim, the difference is a seam. It is known at the rim and is extended smoothly into the hole,
then added there: a membrane over the hole (Perez et al. 2003, Poisson Image Editing, equation 7),
here solved coarse to fine.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from uctgan_jax.images import resize
from uctgan_jax.windows import Window


def paste(
    results: Sequence[np.ndarray],
    generated: Sequence[np.ndarray],
    image: np.ndarray,
    hole: np.ndarray,
    window: Window,
    pasted: np.ndarray | None = None,
) -> None:
    """Fills what a window fills, in each of K completions, from what the model made of it.

    Args:
        results: K times uint8 [H, W, 3]; changed in place.
        generated: K times uint8 [S, S, 3], the model's whole picture of the window.
        image: uint8 [H, W, 3], the picture; pixels in the hole are not looked at.
        hole: uint8 {0, 1} [H, W], all holes.
        window: which part, and its weights.
        pasted: uint16 [H, W], 0 at first: the weights of the windows pasted so far, which these
            are added to; None if there is one window only.
    """
    height, width = (edge.stop - edge.start for edge in window.box)
    size = generated[0].shape[0]
    # One pixel of the model: finer differences say nothing of the colour.
    rim = max(1, round(max(height, width) / size))
    # The core with its rim, in the picture and in the window.
    region, inner = [], []
    for core, box in zip(window.core, window.box, strict=True):
        start, stop = max(core.start - rim, box.start), min(core.stop + rim, box.stop)
        region.append(slice(start, stop))
        inner.append(slice(start - box.start, stop - box.start))
    region, inner = tuple(region), tuple(inner)
    core = tuple(
        slice(core.start - outer.start, core.stop - outer.start)
        for core, outer in zip(window.core, region, strict=True)
    )
    fill = window.weights > 0
    share = np.ones((1, 1), np.float32)
    if pasted is not None:
        pasted[window.core] += window.weights
        share = (window.weights[fill] / pasted[window.core][fill]).astype(np.float32)[:, None]
    for result, picture in zip(results, generated, strict=True):
        matched = resize(picture, height, width)[inner]
        matched = match_rim(matched, image[region], hole[region] > 0, rim)[core][fill]
        before = result[window.core][fill]
        result[window.core][fill] = np.rint(before + share * (matched - before.astype(np.float32)))


def match_rim(generated: np.ndarray, image: np.ndarray, hole: np.ndarray, rim: int) -> np.ndarray:
    """Brings a generated picture to the colours of the known pixels around a hole.

    Args:
        generated: uint8 [H, W, 3], also where pixels are known.
        image: uint8 [H, W, 3], the picture; pixels in the hole are not looked at.
        hole: bool [H, W].
        rim: how many pixels around the hole are compared.

    Returns:
        uint8 [H, W, 3]; of meaning in the hole alone.
    """
    kernel = np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)
    known = ((cv2.dilate(hole.astype(np.uint8), kernel) > 0) & ~hole).astype(np.float32)
    if not known.any():
        return generated
    difference = (image.astype(np.float32) - generated) * known[..., None]
    correction = _extend(difference, known)
    return np.clip(np.rint(generated + correction), 0, 255).astype(np.uint8)


def _extend(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Extends values from where they are known to everywhere: near details, far means.

    Pull-push (Gortler et al. 1996, The Lumigraph, section 3.4): weighted means on ever coarser
    grids, which then fill what finer grids do not know.

    Args:
        values: float32 [H, W, 3], times their weights.
        weights: float32 [H, W] in [0, 1].
    """
    if max(weights.shape) == 1 or weights.min() > 0:
        return values / np.maximum(weights, 1e-6)[..., None]
    # Twice the weight of the mean: one known pixel in two is as good as all.
    coarse_weights = cv2.pyrDown(weights)
    gain = np.minimum(1, 2 * coarse_weights) / np.maximum(coarse_weights, 1e-6)
    coarse = _extend(cv2.pyrDown(values) * gain[..., None], coarse_weights * gain)
    filled = cv2.pyrUp(coarse, dstsize=weights.shape[::-1])
    return values + (1 - weights[..., None]) * filled
