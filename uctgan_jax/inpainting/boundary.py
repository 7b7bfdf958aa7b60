"""What a mask means: which pixels are filled, which stay, and which are trusted.

A mask is coverage: how much of each pixel is hidden.

- A pixel of which the mask covers 8/255 or more is filled, wholly: `hole_of`. Fainter coverage is
  what JPEG and networks leave all over a mask.
- Every other pixel stays as it is, bit for bit.
- Of those that stay, the ones beside a hole may still hold something of what is hidden: a feathered
  edge, the blocks of a JPEG, a mask that is a pixel too tight. The model and the matching of
  colours see them replaced by what lies farther out: `clean_surroundings`.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from uctgan_jax.images import coverage_of, resize
from uctgan_jax.inpainting.windows import Window

_FILLED_FROM = 8  # of 255
# So many pixels around a hole may be mixed with what it hides.
_RINGS = 4
# Their colours are looked for among clean ones no farther than this, up to so many levels.
_REACH = 8
_TOLERANCE = 5
# The share of foreign colours that makes pixels beside a hole mixed, and those farther out.
_FIRST_SHARE = 0.7
_NEXT_SHARE = 0.3
# The side at which shares are counted: they change slowly.
_COUNTED_AT = 512


def coverage_of_array(mask: np.ndarray) -> np.ndarray:
    """How much of each pixel a mask covers.

    Arrays mean what mask files mean. Booleans are wholly hole or known; floats are shares from 0
    to 1; integers are the grey levels of a file, see `images.coverage_of`.

    Args:
        mask: [H, W] or [H, W, 1], white = hole.

    Returns:
        uint8 [H, W], 255 = wholly hole, 0 = known.

    Raises:
        ValueError: if it has another shape or type, or a value out of its range.
    """
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2 or not mask.size or mask.dtype.kind not in "biuf":
        raise ValueError(
            f"mask ({mask.dtype} {mask.shape}) must be bool, integers or floats, [H, W] or"
            " [H, W, 1]"
        )
    highest = {"b": 1, "f": 1}.get(mask.dtype.kind, 65535)
    if not (mask.min() >= 0 and mask.max() <= highest):  # so NaN is refused too
        raise ValueError(
            f"mask (values {mask.min()} to {mask.max()}) must lie in 0 to {highest} for"
            f" {mask.dtype}"
        )
    if mask.dtype.kind in "bf":
        return np.rint(mask * np.float32(255)).astype(np.uint8)
    return coverage_of(mask.astype(np.uint8 if mask.max() <= 255 else np.uint16)[..., None])


def is_filled(coverage: np.ndarray) -> np.ndarray:
    """Which pixels a mask covers enough to be filled: bool, of the shape of `coverage`, uint8."""
    return coverage >= _FILLED_FROM


def hole_of(coverage: np.ndarray, grow: int = 0) -> np.ndarray:
    """Which pixels are filled.

    Args:
        coverage: uint8 [H, W], 255 = wholly hole.
        grow: by how many pixels the mask is grown in every direction first, diagonals included.

    Returns:
        uint8 [H, W], 1 = hole.

    Raises:
        ValueError: if nothing is left to fill, or nothing to fill it from.
    """
    hole = is_filled(coverage).astype(np.uint8)
    if not hole.any():
        raise ValueError("the mask is empty: no pixel is marked as hole")
    if grow:
        reach = min(grow, max(hole.shape))
        for shape in ((1, 2 * reach + 1), (2 * reach + 1, 1)):
            hole = np.asarray(cv2.dilate(hole, np.ones(shape, np.uint8)), np.uint8)
    if hole.all():
        grown = f" once it is grown by {grow} pixels" if grow else ""
        raise ValueError(f"the mask is full{grown}: a picture needs known pixels to be completed")
    return hole


def clean_surroundings(
    image: np.ndarray, coverage: np.ndarray, hole: np.ndarray, windows: Sequence[Window]
) -> np.ndarray:
    """The picture without what known pixels beside holes have of what is hidden.

    Where most pixels beside a hole have colours that are nowhere to be found five pixels and more
    away from it, they are mixed with what is hidden, and so is what lies behind them as long as
    many are of such colours. An edge of the picture that meets the rim makes few such pixels, and
    changes nothing. Pixels that the mask covers faintly are mixed in any case. Mixed pixels are
    replaced by the mean of their neighbours that are not, from the outside in.

    Args:
        image: uint8 [H, W, 3].
        coverage: uint8 [H, W], 255 = wholly hole.
        hole: uint8 {0, 1} [H, W], what is filled.
        windows: around all holes. "Most" is over half the side of each.

    Returns:
        uint8 [H, W, 3], for the model and for matching colours; never shown.
    """
    clean = image.copy()
    for window in windows:
        # The rest of the box belongs to other windows, or lies too far out.
        near = tuple(
            slice(
                max(core.start - _RINGS - _REACH, box.start),
                min(core.stop + _RINGS + _REACH, box.stop),
            )
            for core, box in zip(window.core, window.box, strict=True)
        )
        span = max(edge.stop - edge.start for edge in window.box) // 2
        rings, known = _rings(hole[near])
        mixed = _mixed(image[near], coverage[near], rings, known, span)
        trusted = (hole[near] == 0) & ~mixed
        for ring in reversed(rings):
            _extend(clean[near], ring & mixed, trusted)
            trusted |= ring
    return clean


def _rings(hole: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Pixels 1, 2, ... from the hole, and those beyond them: bool [H, W] each."""
    rings, inner = [], hole
    for _ in range(_RINGS):
        outer = cv2.dilate(inner, np.ones((3, 3), np.uint8))
        rings.append(outer > inner)
        inner = outer
    return rings, inner == 0


def _mixed(
    image: np.ndarray,
    coverage: np.ndarray,
    rings: Sequence[np.ndarray],
    known: np.ndarray,
    span: int,
) -> np.ndarray:
    """Which pixels of the rings have something of what is hidden: bool [H, W].

    Args:
        image: uint8 [H, W, 3].
        coverage: uint8 [H, W].
        rings, known: see `_rings`.
        span: of pixels, over which "most" and "many" are counted.
    """
    around = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
    in_reach = cv2.dilate(known.astype(np.uint8), around) > 0
    highest = cv2.dilate(np.where(known[..., None], image, np.uint8(0)), around)
    lowest = cv2.erode(np.where(known[..., None], image, np.uint8(255)), around)
    excess = np.maximum(cv2.subtract(image, highest), cv2.subtract(lowest, image)).max(axis=2)
    foreign = excess > _TOLERANCE

    scale = min(1, _COUNTED_AT / max(known.shape))
    size = tuple(max(1, round(scale * length)) for length in known.shape)
    window = (round(scale * span) // 2 * 2 + 1,) * 2

    def count(pixels: np.ndarray) -> np.ndarray:
        return cv2.blur(
            resize(pixels.astype(np.float32), *size), window, borderType=cv2.BORDER_CONSTANT
        )

    mixed = in_reach & (coverage > 0) & np.logical_or.reduce(rings)
    so_far = np.ones(size, bool)
    for ring, least in zip(rings, (_FIRST_SHARE, *[_NEXT_SHARE] * (_RINGS - 1)), strict=True):
        so_far &= count(ring & foreign) > least * count(ring)
        if not so_far.any():
            break
        here = cv2.resize(
            so_far.astype(np.uint8), known.shape[::-1], interpolation=cv2.INTER_NEAREST
        )
        mixed |= ring & in_reach & (here > 0)
    return mixed


def _extend(image: np.ndarray, where: np.ndarray, trusted: np.ndarray) -> None:
    """Replaces pixels by the mean of their trusted neighbours, in place."""
    rows, columns = np.nonzero(where)
    offsets = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])[:, :, None]
    rows = np.clip(rows + offsets[:, 0], 0, image.shape[0] - 1)
    columns = np.clip(columns + offsets[:, 1], 0, image.shape[1] - 1)
    weights = trusted[rows, columns][..., None]
    total = weights.sum(axis=0)
    means = np.rint((image[rows, columns] * weights).sum(axis=0) / np.maximum(total, 1))
    image[where] = np.where(total > 0, means, image[where]).astype(np.uint8)
