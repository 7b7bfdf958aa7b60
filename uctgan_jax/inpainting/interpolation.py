"""Walking the manifold: from one code to another."""

from __future__ import annotations

import numpy as np


def interpolate(start: np.ndarray, end: np.ndarray, steps: int) -> np.ndarray:
    """Codes on the way from one code to another, both included.

    The direction turns at a constant rate on the great circle (Shoemake, 1985) while the length
    goes evenly from that of `start` to that of `end`. On the straight line the codes in the middle
    would be shorter than those the generator was trained on: almost all of N(0, I) lies near a
    sphere (White, 2016, "Sampling Generative Networks"). Codes that no single arc joins (one of
    them zero, or opposite directions) are joined by the straight line.

    Args:
        start, end: float32 [Z].
        steps: how many codes, 2 or more.

    Returns:
        float32 [steps, Z]; the first and the last are exactly `start` and `end`.

    Raises:
        ValueError: other shapes, numbers that are not finite, or too few steps.
    """
    start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
    if start.ndim != 1 or start.shape != end.shape or not len(start):
        raise ValueError(f"codes {start.shape} and {end.shape} must both be [Z]")
    if not (np.isfinite(start).all() and np.isfinite(end).all()):
        raise ValueError("codes must be finite")
    if steps < 2:
        raise ValueError(f"steps ({steps}) must be at least 2: both ends are among them")
    t = np.linspace(0.0, 1.0, steps)[:, None]
    lengths = np.linalg.norm(np.stack([start, end]).astype(np.float64), axis=1)
    codes = (1 - t) * start + t * end
    if lengths.min() > 0:
        first, last = start / lengths[0], end / lengths[1]
        # Between unit vectors, this form of the angle is exact for small angles too.
        angle = 2 * np.arctan2(np.linalg.norm(last - first), np.linalg.norm(last + first))
        if 1e-6 < angle < np.pi - 1e-6:
            directions = (np.sin((1 - t) * angle) * first + np.sin(t * angle) * last) / np.sin(
                angle
            )
            codes = ((1 - t) * lengths[0] + t * lengths[1]) * directions
    codes = codes.astype(np.float32)
    codes[0], codes[-1] = start, end
    return codes
