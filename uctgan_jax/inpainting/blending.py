"""Blending a completion into its picture, inside the hole only.

What a model returns for the known pixels around a hole differs from them, in colour above all: cut
at the rim, the difference is a seam. It is known at the rim and is extended smoothly into the hole,
then added there: a membrane over the hole (Perez et al. 2003, Poisson Image Editing, equation 7),
here solved coarse to fine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from uctgan_jax.images import resize
from uctgan_jax.inpainting.windows import Window, seen

# Corrections are solved at no more than this.
_MOST_PIXELS = 2**20
_SWEEPS = 4
_NEIGHBOURS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / 4


def paste(
    results: Sequence[np.ndarray] | np.ndarray,
    generated: Sequence[np.ndarray] | np.ndarray,
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
    inside = seen(window.box, size)
    # One pixel of the model: finer differences say nothing of the colour.
    rim = max(1, round(max(height, width) / size))
    # The core with its rim, in the picture and in the window.
    region = tuple(
        slice(max(core.start - rim, box.start), min(core.stop + rim, box.stop))
        for core, box in zip(window.core, window.box, strict=True)
    )
    inner = tuple(
        slice(edge.start - box.start, edge.stop - box.start)
        for edge, box in zip(region, window.box, strict=True)
    )
    core = tuple(
        slice(core.start - outer.start, core.stop - outer.start)
        for core, outer in zip(window.core, region, strict=True)
    )
    rim_matcher = RimMatcher(image[region], hole[region], rim)
    weights = window.weights
    share = None  # of this window, where others have been pasted
    if pasted is not None:
        are_others = pasted[window.core][weights > 0].any()
        pasted[window.core] += weights
        if are_others:
            share = weights / np.maximum(pasted[window.core], 1, dtype=np.float32)
    for result, picture in zip(results, generated, strict=True):
        matched = rim_matcher(resize(picture[inside], height, width)[inner])[core]
        target = result[window.core]
        if share is not None:
            matched = target + share[..., None] * (matched - target.astype(np.float32))
            matched = np.rint(matched).astype(np.uint8)
        np.copyto(target, matched, where=weights[..., None] > 0)


class RimMatcher:
    """Brings generated pictures to the colours of the known pixels around a hole."""

    def __init__(self, image: np.ndarray, hole: np.ndarray, rim: int):
        """Prepares what all completions of a hole share.

        Args:
            image: uint8 [H, W, 3], the picture; pixels in the hole are not looked at.
            hole: uint8 {0, 1} [H, W].
            rim: how many pixels around the hole are compared.
        """
        # The correction is smooth but for the rim itself: large holes are solved at a lower
        # resolution, which bounds time and memory.
        scale = min(1, math.sqrt(_MOST_PIXELS / hole.size))
        self._size = tuple(max(1, round(scale * length)) for length in hole.shape)
        rim = max(1, round(scale * rim))
        hidden = resize(hole.astype(np.float32), *self._size)  # the share of each pixel
        known = 1 - hidden
        near = cv2.dilate(hidden, np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)) > 0
        self._weights = known * near
        mean = resize(np.where(hole[..., None] > 0, np.uint8(0), image), *self._size)
        self._image = mean / np.maximum(known, 1e-6)[..., None]

    def __call__(self, generated: np.ndarray) -> np.ndarray:
        """Matches one picture.

        Args:
            generated: uint8 [H, W, 3], also where pixels are known.

        Returns:
            uint8 [H, W, 3]; of meaning in the hole alone.
        """
        difference = self._image - resize(generated, *self._size)
        correction = extend(difference * self._weights[..., None], self._weights)
        correction = resize(np.rint(correction).astype(np.int16), *generated.shape[:2])
        return cv2.add(generated, correction, dtype=cv2.CV_8U)


def extend(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Extends values from where they are known to everywhere else, as smoothly as can be.

    Weighted means on ever coarser grids fill what finer grids do not know (pull-push: Gortler et
    al. 1996, The Lumigraph, section 3.4); a few Jacobi sweeps on each grid bring that to the
    membrane, on which every unknown pixel is the mean of its four neighbours.

    Args:
        values: float32 [H, W, 3], times their weights.
        weights: float32 [H, W] in [0, 1], 1 = known.

    Returns:
        float32 [H, W, 3].
    """
    if max(weights.shape) == 1 or weights.min() > 0:
        return values / np.maximum(weights, 1e-6)[..., None]
    coarse_weights = cv2.pyrDown(weights)
    # One known pixel in two is as good as all.
    gain = np.minimum(1, 2 * coarse_weights) / np.maximum(coarse_weights, 1e-6)
    coarse = extend(cv2.pyrDown(values) * gain[..., None], coarse_weights * gain)
    filled = cv2.pyrUp(coarse, dstsize=weights.shape[::-1])
    unknown = 1 - weights[..., None]
    filled = values + unknown * filled
    for _ in range(_SWEEPS):
        means = cv2.filter2D(filled, -1, _NEIGHBOURS, borderType=cv2.BORDER_REPLICATE)
        filled = values + unknown * means
    return filled
