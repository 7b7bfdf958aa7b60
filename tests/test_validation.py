"""What training shows of held-out pictures."""

import functools

import cv2
import numpy as np
import pytest

from tests.conftest import model_params
from uctgan_jax import losses
from uctgan_jax.preprocess import normalize
from uctgan_jax.prior.normal import NormalPrior
from uctgan_jax.validation import Validator, outputs


@pytest.fixture(scope="module")
def params(networks):
    return model_params(networks, seed=3)


def test_measures_reconstructions_and_the_prior(tmp_path, networks, params, batch):
    evaluate = functools.partial(outputs, networks, NormalPrior())
    with Validator(evaluate, batch, tmp_path / "samples") as validator:
        figures = validator.validate(params, step=40, draw=False)
        assert not list((tmp_path / "samples").iterdir())
        assert validator.validate(params, step=40, draw=True) == figures
    assert cv2.imread(str(tmp_path / "samples" / "00000040.png")).std() > 10
    assert set(figures) == {"reconstruction_hole", "prior"}
    assert 0.1 < figures["reconstruction_hole"] < 1.5
    mean, log_variance = networks.project(params, normalize(networks.to_patches(batch["image"])))
    kl = losses.kl_divergence(mean=mean, log_variance=log_variance)
    np.testing.assert_allclose(figures["prior"], kl, rtol=1e-4)


def test_a_sheet_that_cannot_be_written_ends_no_run(tmp_path, networks, params, batch, caplog):
    evaluate = functools.partial(outputs, networks, NormalPrior())
    with Validator(evaluate, batch, tmp_path / "samples") as validator:
        (tmp_path / "samples" / "00000040.png").mkdir()
        for _ in range(2):  # where an error of the first would come up
            assert validator.validate(params, step=40, draw=True)["prior"] > 0
    assert "00000040.png was not written" in caplog.text
