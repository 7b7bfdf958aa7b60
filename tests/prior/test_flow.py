"""The conditional prior: N(0, I) to the codes that a condition allows, and back."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uctgan_jax import losses
from uctgan_jax.prior.flow import ConditionalPrior, flat, guided, transport

SPREAD = 0.1  # of the codes about their centers


def centers_of(sides, key):
    """[B, 2]: on the condition's side of the first axis, on both of the second."""
    other = jnp.where(jax.random.bernoulli(key, 0.5, sides.shape), 1.5, -1.5)
    return jnp.stack([2 * sides, other], axis=-1)


def codes_of(sides, key):
    first, noise = jax.random.split(key)
    return centers_of(sides, first) + SPREAD * jax.random.normal(noise, (len(sides), 2))


@pytest.fixture(scope="module")
def velocities():
    """A prior after 100 steps, and trained: `velocity(sides [B])` is the field for codes [B, 2]."""
    prior = ConditionalPrior(code_dim=2, condition_width=64, width=64, num_blocks=1)

    def field(params, sides):
        bound = prior.bind({"params": params})
        embedding = bound.embed([sides[:, None, None, None]])
        return lambda codes, time: bound(codes, time, embedding)

    def init(prior, codes, time, condition):
        return prior(codes, time, prior.embed(condition))

    params = prior.init(
        jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1), [jnp.zeros((1, 1, 1, 1))], method=init
    )["params"]
    optimizer = optax.adam(3e-3)

    @jax.jit
    def train(carry, keys):
        def step(carry, key):
            params, opt_state = carry
            keys = jax.random.split(key, 4)
            sides = jax.random.rademacher(keys[0], (256,), jnp.float32)
            mean = centers_of(sides, keys[1])
            noise, own_noise = jax.random.normal(keys[2], (2, *mean.shape))
            time = jax.random.uniform(keys[3], (256,))
            way = noise + time[:, None] * (mean + SPREAD * own_noise - noise)

            def loss(params):
                return losses.flow_matching(
                    velocity=field(params, sides)(way, time)[:, None],
                    way=way[:, None],
                    time=time[:, None],
                    mean=mean,
                    log_variance=jnp.full_like(mean, 2 * jnp.log(SPREAD)),
                )

            updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, carry, keys)[0]

    keys = jax.random.split(jax.random.key(1), 1000)
    early = train((params, optimizer.init(params)), keys[:100])
    trained = train(early, keys[100:])
    return [functools.partial(field, params) for params, _ in (early, trained)]


@pytest.fixture(scope="module")
def velocity(velocities):
    return velocities[-1]


def test_sees_the_coarsest_map_and_the_means_of_the_next():
    rng = np.random.default_rng(0)
    finest, finer, coarsest = (
        rng.normal(size=(3, side, side, channels)).astype(np.float32)
        for side, channels in ((8, 2), (4, 5), (2, 7))
    )
    means = finer.reshape(3, 2, 2, 2, 2, 5).mean((2, 4))
    seen = flat((finest, finer, coarsest))
    expected = np.concatenate([coarsest.reshape(3, -1), means.reshape(3, -1)], axis=-1)
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    np.testing.assert_array_equal(flat((coarsest,)), coarsest.reshape(3, -1))
    np.testing.assert_array_equal(flat([seen]), seen)


def test_draws_what_the_condition_allows_in_its_proportions(velocity):
    sides = jnp.repeat(jnp.array([1.0, -1.0]), 500)
    noise = jax.random.normal(jax.random.key(2), (1000, 2))
    drawn = np.asarray(transport(velocity(sides), noise, back=False))
    np.testing.assert_array_less(1.2, drawn[:, 0] * np.asarray(sides))
    on_a_mode = np.abs(np.abs(drawn[:, 1]) - 1.5) < 0.5
    assert on_a_mode.mean() > 0.9
    assert 0.4 < (drawn[:, 1] > 0).mean() < 0.6


def test_guided_by_a_worse_prior_codes_come_nearer_to_the_modes(velocities):
    sides = jnp.repeat(jnp.array([1.0, -1.0]), 500)
    noise = jax.random.normal(jax.random.key(2), (1000, 2))
    early, trained = (velocity(sides) for velocity in velocities)
    of_early, of_trained, of_guided = (
        np.asarray(transport(field, noise, back=False))
        for field in (early, trained, guided(trained, early, 2.0))
    )
    between = [(np.abs(codes[:, 1]) < 1).mean() for codes in (of_early, of_trained, of_guided)]
    assert between[0] > 2 * between[1] > 2 * between[2]
    same = transport(guided(trained, early, 1.0), noise, back=False)
    np.testing.assert_allclose(same, of_trained, atol=1e-4)


def test_a_code_keeps_what_it_says_and_takes_what_another_condition_says(velocity):
    sides = jnp.tile(jnp.array([1.0, -1.0]), 100)
    codes = codes_of(sides, jax.random.key(3))
    noise = transport(velocity(sides), codes, back=True)
    same = transport(velocity(sides), noise, back=False)
    np.testing.assert_allclose(same, codes, atol=0.35)
    moved = np.asarray(transport(velocity(-sides), noise, back=False))
    np.testing.assert_array_less(1.2, -moved[:, 0] * np.asarray(sides))
    assert (np.sign(moved[:, 1]) == np.sign(codes[:, 1])).mean() > 0.9
