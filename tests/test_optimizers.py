"""The players' optimisers: rates that fall when they should, and steps of the right kind."""

import jax
import numpy as np
import optax
import pytest

from uctgan_jax.muon import scale_by_muon
from uctgan_jax.optimizers import make_optimizers
from uctgan_jax.prior.flow import CONDITION_LAYER


def _rates(**changes: float) -> dict[str, float]:
    rates = dict.fromkeys(
        ("generator_learning_rate", "prior_learning_rate", "discriminator_learning_rate"), 0.01
    )
    return rates | dict(beta1=0.9, beta2=0.99, decay_share=0.0, num_steps=1000) | changes


@pytest.mark.parametrize(
    ("decay_share", "sizes", "prior_sizes"),
    [
        (0.0, [1, 1, 1, 1], [1, 1, 1, 1, 1, 1]),
        (0.5, [1, 1, 1, 0.5], [1, 1, 1, 1, 2 / 3, 1 / 3]),
        (1.0, [1, 0.75, 0.5, 0.25], [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
    ],
)
def test_learning_rates_fall_over_the_last_share_of_the_steps(decay_share, sizes, prior_sizes):
    optimizers = make_optimizers(
        generator_learning_rate=0.1,
        prior_learning_rate=0.3,
        discriminator_learning_rate=0.2,
        beta1=0.0,
        beta2=0.9,
        decay_share=decay_share,
        num_steps=6,
        reconstruction_steps=1,
        prior_steps=2,
    )
    # D and the prior are not there for the first step.
    for optimizer, expected in (
        (optimizers.generator, [0.1 * 0.3 * size for size in sizes]),  # as a vector
        (optimizers.discriminator, [0.2 * 0.3 * size for size in sizes[1:]]),
        (optimizers.prior, [0.3 * 0.3 * size for size in prior_sizes[1:]]),
    ):
        params = {CONDITION_LAYER: {"kernel": np.zeros((2, 1)), "bias": np.zeros(1)}}
        state = optimizer.init(params)
        ones = jax.tree.map(np.ones_like, params)
        for rate in expected:  # Adam's step is as long as its rate while gradients are constant.
            update, state = optimizer.update(ones, state, params)
            assert update[CONDITION_LAYER]["bias"] == pytest.approx(-rate, rel=1e-4)


@pytest.mark.parametrize("player", ["generator", "prior", "discriminator"])
def test_muon_makes_steps_orthogonal_and_adam_moves_vectors(player):
    optimizer = getattr(make_optimizers(**_rates(**{f"{player}_learning_rate": 0.1})), player)
    rng = np.random.default_rng(0)
    # Directions of very different size: Adam, which takes each number by itself, would leave the
    # singular values of its step a hundred times apart.
    scales = np.logspace(0, -2, 8)
    grads = {
        "dense": rng.standard_normal((20, 8)) * scales,
        "conv": rng.standard_normal((3, 3, 16, 8)) * scales,
        "bias": rng.standard_normal(8) * scales,
        "gamma": np.float32(3.0),
        CONDITION_LAYER: {"kernel": np.ones((2, 1)), "bias": np.ones(1)},
    }
    grads = jax.tree.map(np.float32, grads)
    updates, _ = optimizer.update(grads, optimizer.init(grads), grads)

    for name in ("dense", "conv"):
        step = -np.asarray(updates[name]).reshape(-1, 8)
        sizes = np.linalg.svd(step, compute_uv=False)
        assert sizes.max() < 2 * sizes.min(), name
        assert np.sum(step * np.reshape(grads[name], step.shape)) > 0, name
        # As long as Adam's steps are: 0.2 of the rate, root mean square.
        assert np.sqrt(np.mean(step**2)) == pytest.approx(0.2 * 0.1, rel=0.35), name
    for name in ("bias", "gamma"):
        assert np.all(np.sign(updates[name]) == -np.sign(grads[name])), name
        assert np.abs(updates[name]) == pytest.approx(
            np.full_like(grads[name], np.abs(updates["gamma"])), rel=1e-3
        ), name


@pytest.mark.parametrize("player", ["generator", "discriminator"])
def test_one_stray_gradient_does_not_carry_the_parameters_away(player):
    optimizer = getattr(make_optimizers(**_rates(**{f"{player}_learning_rate": 0.05})), player)
    rng = np.random.default_rng(0)
    target = {"kernel": rng.standard_normal((8, 4)).astype(np.float32)}
    stray = {"kernel": 1e12 * rng.standard_normal((8, 4)).astype(np.float32)}
    params = jax.tree.map(np.zeros_like, target)
    update = jax.jit(optimizer.update)
    state = optimizer.init(params)
    distances = []
    for step in range(500):
        noise = {"kernel": 0.1 * rng.standard_normal((8, 4)).astype(np.float32)}
        grads = jax.tree.map(lambda p, t, n: p - t + n, params, target, noise)
        updates, state = update(stray if step == 400 else grads, state, params)
        params = jax.tree.map(np.add, params, updates)
        distances.append(np.abs(params["kernel"] - target["kernel"]).max())
    assert max(distances[350:400]) < 0.2
    # Muon by itself goes 2.2 away, as far as it was in the beginning.
    assert max(distances[400:]) < 0.3


def test_what_had_nothing_to_learn_at_first_still_learns():
    optimizer = make_optimizers(**_rates(discriminator_learning_rate=0.05)).discriminator
    params = {"kernel": np.zeros((8, 4), np.float32)}
    grads = {"kernel": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}
    state = optimizer.init(params)
    for _ in range(3):
        _, state = optimizer.update(params, state, params)  # zeros
    updates, _ = optimizer.update(grads, state, params)
    assert np.abs(updates["kernel"]).max() > 1e-3


def test_usual_gradients_are_left_as_they_are():
    rng = np.random.default_rng(1)
    ours = make_optimizers(**_rates()).generator
    plain = optax.chain(scale_by_muon(), optax.scale(-0.01))
    params = {"kernel": np.zeros((4, 4), np.float32)}
    states = [ours.init(params), plain.init(params)]
    for _ in range(20):
        size = rng.uniform(0.5, 1.5)
        grads = {"kernel": size * rng.standard_normal((4, 4)).astype(np.float32)}
        updates = [None, None]
        for i, optimizer in enumerate((ours, plain)):
            updates[i], states[i] = optimizer.update(grads, states[i], params)
        np.testing.assert_allclose(updates[0]["kernel"], updates[1]["kernel"], rtol=1e-4)
