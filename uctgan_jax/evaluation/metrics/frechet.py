"""The Frechet distance between two sets of feature vectors, in float64.

With InceptionV3's pooled features it is FID (Heusel et al. 2017); with others it has another name
and another scale, and the two must not be compared.
"""

import numpy as np


def frechet_distance(features: np.ndarray, references: np.ndarray) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the Gaussians fitted to two sets.

    At least 0, up to rounding; 0 for equal sets. It grows as sets shrink: compare sets of one size,
    and note that with fewer vectors than dimensions the covariances have not full rank.

    Args:
        features: [N, D].
        references: [M, D].

    Raises:
        ValueError: fewer than two vectors, different dimensions, or numbers that are not finite.
    """
    features, references = np.asarray(features, np.float64), np.asarray(references, np.float64)
    for array in (features, references):
        if array.ndim != 2 or len(array) < 2 or array.shape[1:] != features.shape[1:]:
            raise ValueError(
                f"Feature sets of shapes {features.shape} and {references.shape} must be [N, D] "
                "and [M, D] with N, M > 1."
            )
        if not np.isfinite(array).all():
            raise ValueError("Features must be finite.")
    difference = features.mean(0) - references.mean(0)
    root, reference_root = _root(features), _root(references)
    # With C = R^T R, the trace of (C1 C2)^(1/2) is the sum of the singular values of R1 R2^T. No
    # covariance is formed and no matrix root taken, so this stays exact when the rank is not full.
    shared = np.linalg.svd(root @ reference_root.T, compute_uv=False).sum()
    spread = (root**2).sum() + (reference_root**2).sum() - 2 * shared
    return float(difference @ difference + spread)


def _root(features):
    """R with R^T R = the covariance, [min(N, D), D]."""
    centred = features - features.mean(0)
    return np.linalg.qr(centred, mode="r") / np.sqrt(len(features) - 1)
