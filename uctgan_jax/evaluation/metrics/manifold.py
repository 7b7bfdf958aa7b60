"""Precision, recall, density and coverage of a set of completions against a set of references.

Each reference (or completion) is surrounded by a ball that reaches its k-th nearest neighbour in
its own set; the balls of a set stand for its manifold. Kynkaanniemi et al. 2019 (precision, recall)
and Naeem et al. 2020 (density, coverage).
"""

import numpy as np


def manifold_figures(
    features: np.ndarray, references: np.ndarray, *, k: int = 5, block: int = 1024
) -> dict[str, float]:
    """`precision`, `recall`, `density` and `coverage`, all 1 at their best but density, see below.

    - precision: share of completions inside any reference's ball.
    - recall: share of references inside any completion's ball.
    - density: in how many of the references' balls a completion lies, over k; may exceed 1.
    - coverage: share of references with a completion inside their ball.

    Args:
        features: [N, D], of completions.
        references: [M, D].
        k: which neighbour a ball reaches, the point itself not counted.
        block: rows of distances held in memory at a time; does not change the figures.

    Raises:
        ValueError: sets of other shapes, or of k vectors or fewer.
    """
    features, references = np.asarray(features, np.float64), np.asarray(references, np.float64)
    if features.ndim != 2 or references.ndim != 2 or features.shape[1] != references.shape[1]:
        raise ValueError(
            f"Feature sets of shapes {features.shape} and {references.shape} must be [N, D] "
            "and [M, D]."
        )
    if min(len(features), len(references)) <= k:
        raise ValueError(
            f"Sets of {len(features)} and {len(references)} vectors must have more than k = {k}."
        )
    radii = _radii(features, k, block)
    reference_radii = _radii(references, k, block)
    inside_reference = np.zeros(len(features), int)  # in how many references' balls
    recalled, covered = [], []
    for start in range(0, len(references), block):
        rows = slice(start, start + block)
        distances = _squared_distances(references[rows], features)
        within = distances <= reference_radii[rows, None]
        inside_reference += within.sum(axis=0)
        covered.append(within.any(axis=1))
        recalled.append((distances <= radii).any(axis=1))
    return {
        "precision": float((inside_reference > 0).mean()),
        "recall": float(np.concatenate(recalled).mean()),
        "density": float(inside_reference.mean() / k),
        "coverage": float(np.concatenate(covered).mean()),
    }


def _radii(points, k, block):
    """Squared distance of each point to its k-th nearest other point."""
    radii = []
    for start in range(0, len(points), block):
        distances = _squared_distances(points[start : start + block], points)
        radii.append(np.partition(distances, k, axis=1)[:, k])  # position 0 is the point itself
    return np.concatenate(radii)


def _squared_distances(first, second):
    squares = (first**2).sum(1)[:, None] - 2 * first @ second.T + (second**2).sum(1)
    return np.maximum(squares, 0)
