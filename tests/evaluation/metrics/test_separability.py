import numpy as np
import pytest
from sklearn.svm import LinearSVC

from uctgan_jax.evaluation.metrics.separability import inception_discriminative_scores


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(80, 5)) * [1, 10, 0.1, 1, 1]
    return truth + rng.normal(size=(80, 5)) * 0.5 + [0.8, 0, 0, 0, 0], truth


def test_equals_a_linear_svm_of_scikit_learn(features):
    fake, real = features
    both = np.concatenate([fake, real])
    both = (both - both.mean(0)) / both.std(0)
    labels = np.repeat([0, 1], 80)
    svm = LinearSVC(dual=False, tol=1e-8, max_iter=10_000).fit(both, labels)
    scores = svm.decision_function(both)
    figures = inception_discriminative_scores(fake, real)
    assert figures["u_ids"] == pytest.approx(1 - svm.score(both, labels), abs=0.02)
    assert figures["p_ids"] == pytest.approx((scores[:80] > scores[80:]).mean(), abs=0.02)
    assert 0.05 < figures["u_ids"] < 0.45


def test_sets_that_a_line_separates_score_zero():
    truth = np.random.default_rng(0).normal(size=(40, 3))
    assert inception_discriminative_scores(truth + 50, truth) == {"u_ids": 0, "p_ids": 0}


def test_the_truth_itself_cannot_be_told():
    truth = np.random.default_rng(0).normal(size=(40, 3))
    figures = inception_discriminative_scores(truth, truth)
    assert figures["u_ids"] == pytest.approx(0.5)


def test_sets_must_be_paired():
    with pytest.raises(ValueError, match=r"must both be \[N, D\]"):
        inception_discriminative_scores(np.zeros((4, 3)), np.zeros((5, 3)))
