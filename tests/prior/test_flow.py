"""The learned prior: N(0, I) to the codes that a condition allows, and back."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import TINY_PRIOR
from uctgan_jax.prior import build_prior, summarize
from uctgan_jax.prior.flow import FlowPrior, flow_matching_loss

SPREAD = 0.1  # of the codes about their centers


def test_a_prior_sees_the_coarsest_map_and_the_means_of_the_next():
    rng = np.random.default_rng(0)
    finest, finer, coarsest = (
        rng.normal(size=(3, side, side, channels)).astype(np.float32)
        for side, channels in ((8, 2), (4, 5), (2, 7))
    )
    means = finer.reshape(3, 2, 2, 2, 2, 5).mean((2, 4))
    expected = np.concatenate([coarsest.reshape(3, -1), means.reshape(3, -1)], axis=-1)
    np.testing.assert_allclose(summarize((finest, finer, coarsest)), expected, rtol=1e-5)
    np.testing.assert_array_equal(summarize((coarsest,)), coarsest.reshape(3, -1))
    assert summarize((finest.astype(jnp.bfloat16),)).dtype == jnp.float32


def test_the_loss_asks_for_the_mean_velocity_of_all_pairs_that_meet_at_a_point():
    """The closed form against the least-squares fit to drawn pairs of noise and code."""
    rng = np.random.default_rng(0)
    noise, code = rng.normal(size=(2, 200_000)) * [[1.0], [0.5]] + [[0.0], [2.0]]
    z_t = 0.7 * noise + 0.3 * code
    fit = np.polynomial.Polynomial.fit(z_t, code - noise, 1)
    codes = {"mean": jnp.full((1, 1), 2.0), "log_variance": jnp.log(jnp.full((1, 1), 0.25))}
    points = jnp.linspace(-1.0, 2.0, 7).reshape(1, 7, 1)

    def loss(velocity):
        time = jnp.full((1, 7), 0.3)
        return flow_matching_loss(velocity=velocity, z_t=points, time=time, **codes)

    mean_velocity = jnp.asarray(fit(np.asarray(points)))
    assert loss(mean_velocity) < 1e-4
    np.testing.assert_allclose(loss(mean_velocity + 0.5), 0.25, atol=0.01)


def test_the_loss_of_a_code_that_is_known_is_that_of_the_pair():
    noise, code = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    mean = code[:, 0]
    time = jnp.linspace(0.0, 0.9, 4) * jnp.ones((3, 1))
    z_t = noise + time[..., None] * (mean[:, None] - noise)
    value = flow_matching_loss(
        velocity=jnp.zeros_like(z_t),
        z_t=z_t,
        time=time,
        mean=mean,
        log_variance=jnp.full_like(mean, -30.0),
    )
    np.testing.assert_allclose(value, jnp.mean((mean[:, None] - noise) ** 2), rtol=1e-3)


@dataclasses.dataclass(frozen=True)
class Growth:
    """A velocity field of known flow: rate * code + drift * time."""

    code_dim: int = 2
    drift: float = 0.0

    def bind(self, variables):
        return self

    def embed(self, condition):
        return condition

    def __call__(self, codes, time, rate):
        return rate * codes + self.drift * time


def test_codes_follow_the_velocity_from_time_0_to_1_and_back():
    rates = jnp.array([[0.5], [-1.0], [0.0]])
    noise = jax.random.normal(jax.random.key(0), (3, 4, 2))
    prior = FlowPrior(Growth())
    codes = prior.sample({}, noise, rates)
    np.testing.assert_allclose(codes, noise * jnp.exp(rates)[:, None], rtol=3e-3)
    np.testing.assert_allclose(prior.invert({}, codes, rates), noise, rtol=3e-3)
    # Heun's method is exact for a velocity that is linear in time: the integral of 3 t is 1.5.
    moved = FlowPrior(Growth(drift=3.0), num_steps=2).sample({}, noise, jnp.zeros((3, 1)))
    np.testing.assert_allclose(moved, noise + 1.5, rtol=1e-5, atol=1e-5)


def test_a_fresh_prior_is_the_identity():
    prior = build_prior(TINY_PRIOR, code_dim=4)
    condition = jnp.ones((2, 5))
    params = prior.init(jax.random.key(0), condition)
    codes = jax.random.normal(jax.random.key(1), (2, 3, 4))
    np.testing.assert_array_equal(prior.sample(params, codes, condition), codes)
    np.testing.assert_array_equal(prior.invert(params, codes, condition), codes)


def test_sizes_below_one_are_refused():
    with pytest.raises(ValueError, match=r"prior.width \(0\) must be 1 or more"):
        build_prior(TINY_PRIOR | {"width": 0}, code_dim=4)


def centers_of(sides, key):
    """[B, 2]: on the condition's side of the first axis, on both of the second."""
    other = jnp.where(jax.random.bernoulli(key, 0.5, sides.shape), 1.5, -1.5)
    return jnp.stack([2 * sides, other], axis=-1)


@pytest.fixture(scope="module")
def trained():
    """A prior and its parameters, trained on codes of two modes on the condition's side."""
    prior = build_prior(dict(condition_width=32, width=64, num_blocks=1), code_dim=2)
    params = prior.init(jax.random.key(0), jnp.zeros((1, 1)))
    optimizer = optax.adam(5e-3)

    def step(carry, key):
        params, opt_state = carry
        keys = jax.random.split(key, 3)
        sides = jax.random.rademacher(keys[0], (128,), jnp.float32)
        mean = centers_of(sides, keys[1])
        log_variance = jnp.full_like(mean, 2 * jnp.log(SPREAD))
        grads = jax.grad(prior.loss)(
            params, mean, log_variance, sides[:, None], jax.random.split(keys[2], 128)
        )
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(params, updates), opt_state), None

    keys = jax.random.split(jax.random.key(1), 500)
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))(
        (params, optimizer.init(params))
    )
    return prior, params


def test_draws_what_the_condition_allows_in_its_proportions(trained):
    prior, params = trained
    sides = np.array([1.0, -1.0], np.float32)
    noise = jax.random.normal(jax.random.key(2), (2, 500, 2))
    drawn = np.asarray(prior.sample(params, noise, sides[:, None]))
    np.testing.assert_array_less(1.2, drawn[..., 0] * sides[:, None])
    on_a_mode = np.abs(np.abs(drawn[..., 1]) - 1.5) < 0.5
    assert on_a_mode.mean() > 0.9
    assert 0.4 < (drawn[..., 1] > 0).mean() < 0.6


def test_a_code_keeps_what_it_says_and_takes_what_another_condition_says(trained):
    prior, params = trained
    sides = jnp.array([1.0, -1.0])
    first, second = jax.random.split(jax.random.key(3))
    codes = centers_of(jnp.repeat(sides, 100), first)
    codes = (codes + SPREAD * jax.random.normal(second, codes.shape)).reshape(2, 100, 2)
    noise = prior.invert(params, codes, sides[:, None])
    np.testing.assert_allclose(prior.sample(params, noise, sides[:, None]), codes, atol=0.35)
    moved = np.asarray(prior.sample(params, noise, -sides[:, None]))
    np.testing.assert_array_less(1.2, -moved[..., 0] * np.asarray(sides)[:, None])
    assert (np.sign(moved[..., 1]) == np.sign(codes[..., 1])).mean() > 0.9
