"""The paper's prior, N(0, I): nothing is learned, nothing is computed."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.conftest import model_params
from uctgan_jax import losses
from uctgan_jax.inpainting.sampler import complete_codes
from uctgan_jax.prior import build_prior

NORMAL = build_prior(None, code_dim=4)
CODES = np.random.default_rng(0).standard_normal((2, 3, 4), np.float32)
CONDITION = np.ones((2, 5), np.float32)


def test_sample_and_invert_are_the_identity_and_compute_nothing():
    for function in (NORMAL.sample, NORMAL.invert):
        np.testing.assert_array_equal(function({}, CODES, CONDITION), CODES)
        assert not jax.make_jaxpr(function)({}, CODES, CONDITION).eqns


def test_there_are_no_parameters():
    assert NORMAL.init(jax.random.key(0), CONDITION) == {}


def test_the_loss_is_the_kl_divergence_of_codes():
    mean, log_variance = np.random.default_rng(1).standard_normal((2, 8, 4)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 8)
    loss = NORMAL.loss({}, mean, log_variance, CONDITION, keys)
    assert loss == losses.kl_divergence(mean=mean, log_variance=log_variance)
    by_hand = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=-1).mean()
    np.testing.assert_allclose(loss, by_hand, rtol=1e-5)


def test_completing_runs_no_steps_of_a_flow(networks, prior):
    """A learned prior is a loop of Heun's steps."""

    def program(prior, params):
        images = jnp.zeros((1, 32, 32, 3), jnp.uint8)
        masks = jnp.zeros((1, 32, 32, 1), jnp.uint8)
        codes = jnp.zeros((1, 2, 4))
        return str(
            jax.make_jaxpr(
                lambda params: complete_codes(networks, prior, params, images, masks, codes)
            )(params)
        )

    learned = jax.eval_shape(lambda: model_params(networks, seed=0, prior=prior))
    without = {name: tree for name, tree in learned.items() if name != "prior"}
    assert "scan[" in program(prior, learned)
    plain = program(NORMAL, without)
    assert "scan[" not in plain and "while[" not in plain
