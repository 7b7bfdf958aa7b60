import numpy as np
import pytest
import scipy.stats

from uctgan_jax.evaluation.metrics.inception_score import inception_score, modified_inception_score


@pytest.fixture(scope="module")
def probabilities():
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 2
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_equals_scipys_divergence(probabilities):
    scores = [
        np.exp(np.mean([scipy.stats.entropy(p, part.mean(0)) for p in part]))
        for part in np.split(probabilities, 5)
    ]
    mean, deviation = inception_score(probabilities, num_splits=5)
    assert mean == pytest.approx(np.mean(scores))
    assert deviation == pytest.approx(np.std(scores))


def test_modified_equals_scipys_entropy(probabilities):
    expected = np.exp(-scipy.stats.entropy(probabilities, axis=1).mean())
    assert modified_inception_score(probabilities) == pytest.approx(expected)


def test_with_one_split_they_differ_by_the_marginals_entropy(probabilities):
    marginal = np.exp(scipy.stats.entropy(probabilities.mean(0)))
    score, _ = inception_score(probabilities, num_splits=1)
    assert score == pytest.approx(modified_inception_score(probabilities) * marginal)


def test_certainty_and_ignorance():
    certain, ignorant = np.eye(4), np.full((4, 4), 0.25)
    assert inception_score(certain, num_splits=1)[0] == pytest.approx(4)
    assert modified_inception_score(certain) == pytest.approx(1)
    assert inception_score(ignorant, num_splits=2) == pytest.approx((1, 0))
    assert modified_inception_score(ignorant) == pytest.approx(0.25)


@pytest.mark.parametrize("wrong", [np.ones((3, 2)), [[1.5, -0.5]], [[np.nan, 1]], [0.5, 0.5]])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        modified_inception_score(wrong)


def test_more_splits_than_pictures_are_refused(probabilities):
    with pytest.raises(ValueError, match=r"\(51\) must be in 1 ... 50"):
        inception_score(probabilities, num_splits=51)
