"""IS and MIS: how sure a classifier is of what it sees, and, for IS, how varied that is.

IS = exp(E_x KL(p(y|x) || p(y))) (Salimans et al. 2016). MIS, the UCTGAN paper's "modified inception
score", leaves out the marginal p(y), which means nothing where all pictures are of one class:
MIS = exp(E_x sum_y p(y|x) log p(y|x)). Neither measures diversity within a class, and MIS measures
none at all: one picture repeated, classified with certainty, gives 1.
"""

import numpy as np


def inception_score(probabilities: np.ndarray, *, num_splits: int = 10) -> tuple[float, float]:
    """IS: mean and standard deviation over splits, in [1, classes]; larger is better.

    Args:
        probabilities: [N, classes], p(y|x), rows that sum to 1.
        num_splits: the pictures, in order, are cut into so many nearly equal parts, each with its
            own marginal. Published figures use 10, of 5,000 pictures each.

    Raises:
        ValueError: rows that are no probabilities, or fewer pictures than splits.
    """
    probabilities = _checked(probabilities)
    if not 1 <= num_splits <= len(probabilities):
        raise ValueError(f"num_splits ({num_splits}) must be in 1 ... {len(probabilities)}.")
    scores = []
    for part in np.array_split(probabilities, num_splits):
        marginal = part.mean(axis=0)
        scores.append(np.exp(_negative_entropy(part).mean() - _negative_entropy(marginal)))
    return float(np.mean(scores)), float(np.std(scores))


def modified_inception_score(probabilities: np.ndarray) -> float:
    """MIS, in [1 / classes, 1]; larger is better. Arguments and errors as `inception_score`."""
    return float(np.exp(_negative_entropy(_checked(probabilities)).mean()))


def _negative_entropy(probabilities):
    return (probabilities * np.log(np.where(probabilities > 0, probabilities, 1))).sum(axis=-1)


def _checked(probabilities):
    probabilities = np.asarray(probabilities, np.float64)
    if probabilities.ndim != 2 or len(probabilities) == 0:
        raise ValueError(f"Probabilities of shape {probabilities.shape} must be [N, classes].")
    if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(1), 1, atol=1e-4):
        raise ValueError("Probabilities must be at least 0 and sum to 1 in each row.")
    return probabilities
