"""Choosing among completions of one picture: the most different, the most real, or both.

More candidates are drawn than are wanted, judged at the model's resolution, and the best kept:
`pair_distances` says how different they are, the discriminator how real, `choose` which to keep.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uctgan_jax import images as host_images
from uctgan_jax.evaluation.metrics.diversity import hole_box
from uctgan_jax.evaluation.metrics.lpips import lpips_matrix

SELECTIONS = ("diverse", "realistic", "both")

# LPIPS was fitted to patches of 64 x 64 pixels (Zhang et al., 2018, section 3). With one size for
# all holes the network is compiled once, whatever the model and the hole.
_SIDE = 64


def pair_distances(completions: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How different completions of one picture are, to the eye: LPIPS of every pair.

    What is compared is the hole's bounding box with a rim of an eighth of its longer side: over
    the whole picture the pixels that all have in common would leave a small hole too few of the
    64 x 64 that are looked at, and without a rim a seam would not count.

    Args:
        completions: uint8 [N, H, W, 3].
        mask: uint8 [H, W, 1], 1 = hole.

    Returns:
        float32 [N, N], symmetric, 0 on the diagonal.

    Raises:
        ValueError: no completion, other shapes, or a mask without a hole.
    """
    completions, mask = np.asarray(completions), np.asarray(mask)
    if completions.dtype != np.uint8 or completions.ndim != 4 or not completions.size:
        raise ValueError(
            f"completions ({completions.dtype} {completions.shape}) must be uint8 [N, H, W, 3]"
        )
    if mask.shape != (*completions.shape[1:3], 1):
        raise ValueError(f"mask {mask.shape} must be {(*completions.shape[1:3], 1)}")
    rows, columns = _with_rim(hole_box(mask), mask.shape[:2])
    crops = [host_images.resize(c[rows, columns], _SIDE, _SIDE) for c in completions]
    return np.asarray(lpips_matrix(np.stack(crops).astype(np.float32) / 127.5 - 1))


def nearest_distances(distances: np.ndarray) -> np.ndarray:
    """From distances [N, N], how far each is from the nearest other: [N]; NaN for a single one."""
    count = len(distances)
    if count == 1:
        return np.full(1, np.nan, distances.dtype)
    return np.where(np.eye(count, dtype=bool), np.inf, distances).min(axis=1)


def farthest_points(distances: np.ndarray, count: int, first: int | None = None) -> np.ndarray:
    """Points far from each other, chosen one after the other, each the farthest from those before.

    At least half as far apart as any such choice could be (Gonzalez, 1985). Among equals the
    lowest number wins.

    Args:
        distances: [N, N], symmetric.
        count: how many to choose, 1 ... N.
        first: the point to begin with; by default one of the two that are farthest apart.

    Returns:
        integers [count], in the order of choice.

    Raises:
        ValueError: `distances` is not square, `count` or `first` is out of range.
    """
    distances = np.asarray(distances)
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1]:
        raise ValueError(f"distances {distances.shape} must be [N, N]")
    size = len(distances)
    if not 1 <= count <= size:
        raise ValueError(f"count ({count}) must lie in 1 ... {size}, the number of points")
    if first is None:
        first = int(distances.max(axis=1).argmax())
    if not 0 <= first < size:
        raise ValueError(f"first ({first}) must lie in 0 ... {size - 1}")
    chosen = [first]
    nearest = distances[first].astype(np.float64)
    for _ in range(count - 1):
        nearest[chosen[-1]] = -np.inf  # never again, even if all others are at distance 0
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, distances[chosen[-1]])
    return np.array(chosen)


def choose(
    select: str,
    count: int,
    *,
    realism: Sequence[float] | np.ndarray,
    distances: np.ndarray,
) -> np.ndarray:
    """Which of N candidates to keep.

    - "diverse": those farthest from each other, `farthest_points`.
    - "realistic": those of the highest realism, the highest first.
    - "both": the half of lower realism is dropped (but `count` are kept), and of the rest those
      farthest from each other, beginning with the one of the highest realism.

    Args:
        select: one of `SELECTIONS`.
        count: how many to keep, 1 ... N.
        realism: [N], higher = more real.
        distances: [N, N].

    Returns:
        integers [count], the best first.

    Raises:
        ValueError: an unknown `select`, or `count` out of range.
    """
    check_selection(select)
    size = len(realism)
    if not 1 <= count <= size:
        raise ValueError(f"count ({count}) must lie in 1 ... {size}, the number of candidates")
    if select == "diverse":
        return farthest_points(distances, count)
    ranked = np.argsort(-np.asarray(realism), kind="stable")
    if select == "realistic":
        return ranked[:count]
    kept = ranked[: max(count, (size + 1) // 2)]
    return kept[farthest_points(distances[np.ix_(kept, kept)], count, first=0)]


def check_selection(select: str | None) -> None:
    """Raises a ValueError unless `select` is one of `SELECTIONS`, or None."""
    if select is not None and select not in SELECTIONS:
        raise ValueError(f"select ({select!r}) must be None or one of {', '.join(SELECTIONS)}")


def _with_rim(box: tuple[slice, slice], shape: Sequence[int]) -> tuple[slice, slice]:
    rim = max(1, max(side.stop - side.start for side in box) // 8)
    rows, columns = (
        slice(max(0, side.start - rim), min(length, side.stop + rim))
        for side, length in zip(box, shape, strict=True)
    )
    return rows, columns
