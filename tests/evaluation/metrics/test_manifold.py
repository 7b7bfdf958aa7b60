import numpy as np
import pytest

from uctgan_jax.evaluation.metrics.manifold import manifold_figures


def brute_force(features, references, k):
    """The definitions, with loops."""

    def radius(point, own):
        return sorted(np.linalg.norm(own - point, axis=1))[k]

    in_balls = np.array(
        [[np.linalg.norm(f - r) <= radius(r, references) for r in references] for f in features]
    )
    recalled = [
        any(np.linalg.norm(f - r) <= radius(f, features) for f in features) for r in references
    ]
    return {
        "precision": in_balls.any(1).mean(),
        "recall": np.mean(recalled),
        "density": in_balls.sum() / k / len(features),
        "coverage": in_balls.any(0).mean(),
    }


@pytest.mark.parametrize("k", [1, 5])
def test_equals_brute_force_for_any_block(k):
    rng = np.random.default_rng(0)
    features, references = rng.normal(size=(30, 4)) + 1.5, rng.normal(size=(40, 4))
    expected = brute_force(features, references, k)
    assert 0 < expected["precision"] < 1 and 0 < expected["coverage"] < 1
    for block in (7, 1000):
        figures = manifold_figures(features, references, k=k, block=block)
        assert figures == pytest.approx(expected)


def test_sets_far_apart_share_nothing():
    rng = np.random.default_rng(0)
    figures = manifold_figures(rng.normal(size=(20, 3)), rng.normal(size=(20, 3)) + 100)
    assert set(figures.values()) == {0}


def test_a_collapsed_set_is_precise_and_covers_little():
    references = np.random.default_rng(0).normal(size=(60, 3))
    features = references[:1] + 1e-3 * np.random.default_rng(1).normal(size=(60, 3))
    figures = manifold_figures(features, references)
    assert figures["precision"] == 1
    assert figures["recall"] < 0.1 and figures["coverage"] < 0.5


def test_equal_sets_are_perfect():
    points = np.random.default_rng(0).normal(size=(30, 3))
    figures = manifold_figures(points, points)
    assert figures["precision"] == figures["recall"] == figures["coverage"] == 1


@pytest.mark.parametrize("shape, rule", [((5, 3), "more than k = 5"), ((9, 4), "must be")])
def test_unfit_sets_are_refused(shape, rule):
    with pytest.raises(ValueError, match=rule):
        manifold_figures(np.zeros(shape), np.zeros((9, 3)))
