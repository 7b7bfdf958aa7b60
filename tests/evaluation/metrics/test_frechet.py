import numpy as np
import pytest
import scipy.linalg

from uctgan_jax.evaluation.metrics.frechet import frechet_distance


@pytest.fixture(scope="module")
def sets():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    return rng.normal(size=(200, 6)) @ mixing, 0.5 + rng.normal(size=(150, 6))


def test_equals_the_matrix_root_of_scipy(sets):
    first, second = sets
    c1, c2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(c1 @ c2)
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * root.real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-10)


def test_symmetric_and_zero_for_equal_sets(sets):
    first, second = sets
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second))
    assert abs(frechet_distance(first, first)) < 1e-9


def test_a_shift_costs_its_square(sets):
    first, _ = sets
    assert frechet_distance(first, first + 3) == pytest.approx(6 * 9)


def test_one_dimension_by_hand():
    # Means 0 and 1; variances 2 and 8: 1 + (sqrt 8 - sqrt 2)^2 = 3.
    assert frechet_distance([[-1.0], [1.0]], [[-1.0], [3.0]]) == pytest.approx(3)


def test_fewer_vectors_than_dimensions_stay_finite():
    rng = np.random.default_rng(1)
    distance = frechet_distance(rng.normal(size=(5, 40)), rng.normal(size=(7, 40)))
    assert np.isfinite(distance) and distance > 0


def test_the_offset_does_not_eat_the_digits(sets):
    first, second = sets
    expected = frechet_distance(first, second)
    assert frechet_distance(first + 1e4, second + 1e4) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "features, rule",
    [
        (np.zeros((1, 6)), "N, M > 1"),
        (np.zeros((9, 5)), "N, M > 1"),
        (np.full((9, 6), np.nan), "finite"),
    ],
)
def test_unfit_sets_are_refused(sets, features, rule):
    with pytest.raises(ValueError, match=rule):
        frechet_distance(sets[0], features)
