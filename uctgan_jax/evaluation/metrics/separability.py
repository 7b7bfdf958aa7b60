"""U-IDS and P-IDS: how well a linear classifier tells completions from the truth (CoModGAN).

A linear SVM is fitted to features of both sets. U-IDS (unpaired) is its error on that same data:
0.5 where it cannot tell, 0 where it always can. P-IDS (paired) is the share of pairs in which it
finds the completion more real than the picture it completes. Zhao et al. 2021.
"""

import numpy as np
import scipy.optimize


def inception_discriminative_scores(
    features: np.ndarray, references: np.ndarray
) -> dict[str, float]:
    """`u_ids` and `p_ids`, both in [0, 1], larger is better.

    The SVM minimises |w|^2 / 2 + the sum of squared hinges, the bias counted in w, on features
    scaled to unit variance: scikit-learn's `LinearSVC` on standardised features, in float64.

    Args:
        features: [N, D], of completions.
        references: [N, D], of the truth, row by row the same pictures.

    Raises:
        ValueError: sets of different shapes.
    """
    features, references = np.asarray(features, np.float64), np.asarray(references, np.float64)
    if features.ndim != 2 or features.shape != references.shape:
        raise ValueError(
            f"Paired features of shapes {features.shape} and {references.shape} must both be "
            "[N, D]."
        )
    both = np.concatenate([features, references])
    scale = both.std(axis=0)
    both = (both - both.mean(axis=0)) / np.where(scale > 0, scale, 1)
    inputs = np.concatenate([both, np.ones((len(both), 1))], axis=1)
    targets = np.repeat([-1.0, 1.0], len(features))  # the truth is positive

    def loss(weights):
        slack = np.maximum(0, 1 - targets * (inputs @ weights))
        gradient = weights - 2 * (slack * targets) @ inputs
        return weights @ weights / 2 + slack @ slack, gradient

    start = np.zeros(inputs.shape[1])
    options = {"maxiter": 2000, "gtol": 1e-6, "ftol": 1e-12}
    fit = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    scores = inputs @ fit.x
    fake, real = scores[: len(features)], scores[len(features) :]
    # A score of exactly 0 is a coin's toss.
    right = (np.sign(scores) == targets) + 0.5 * (scores == 0)
    return {"u_ids": float(1 - right.mean()), "p_ids": float((fake > real).mean())}
