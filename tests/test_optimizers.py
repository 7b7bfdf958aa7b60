"""Optimisers: rates that fall when they should, and steps of the right kind."""

import jax
import numpy as np
import optax
import pytest

from uctgan_jax.optimizers import falling_rate, make_optimizer, make_optimizers


@pytest.mark.parametrize(
    ("num_steps", "decay_steps", "expected"),
    [
        (4, 0, [1, 1, 1, 1, 1]),
        (4, 2, [1, 1, 1, 0.5, 0]),
        (4, 1, [1, 1, 1, 1, 0]),
        (4, 4, [1, 0.75, 0.5, 0.25, 0]),
        # A run shorter than its decay takes the decay's last steps.
        (3, 6, [1 / 2, 1 / 3, 1 / 6, 0]),
    ],
)
def test_a_rate_falls_to_zero_over_its_last_steps(num_steps, decay_steps, expected):
    rate = falling_rate(0.2, num_steps, decay_steps)
    rates = [float(rate(step)) for step in range(num_steps + 1)]
    np.testing.assert_allclose(rates, 0.2 * np.array(expected), atol=1e-7)


def rates_of(optimizer, num_steps):
    """Adam's steps are as long as its rate while gradients are constant."""
    params = {"bias": np.zeros(1, np.float32)}
    ones, state, rates = {"bias": np.ones(1, np.float32)}, optimizer.init(params), []
    for _ in range(num_steps):
        updates, state = optimizer.update(ones, state, params)
        rates.append(-updates["bias"].item())
    return rates


@pytest.mark.parametrize("name", ["adam", "muon"])
@pytest.mark.parametrize(
    ("decay_share", "generator", "discriminator"),
    [
        (0.0, [1, 1, 1, 1, 1, 1], [1, 1, 1, 1]),
        (0.5, [1, 1, 1, 1, 2 / 3, 1 / 3], [1, 1, 2 / 3, 1 / 3]),
        # D's rate would have begun to fall before its first step, two steps into the run.
        (1.0, [1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6], [4 / 6, 3 / 6, 2 / 6, 1 / 6]),
    ],
)
def test_rates_fall_over_the_last_share_of_a_run(name, decay_share, generator, discriminator):
    """Six steps, D taking part in the last four: both reach 0 at the end of the run."""
    optimizers = make_optimizers(
        name=name,
        generator_learning_rate=0.1,
        discriminator_learning_rate=0.2,
        beta1=0.0,
        beta2=0.9,
        decay_share=decay_share,
        num_steps=6,
        reconstruction_steps=2,
    )
    rates = rates_of(optimizers.generator, 6)
    np.testing.assert_allclose(rates, 0.1 * np.array(generator), rtol=1e-4)
    rates = rates_of(optimizers.discriminator, 4)
    np.testing.assert_allclose(rates, 0.2 * np.array(discriminator), rtol=1e-4)


def test_an_unknown_name_is_refused():
    message = r"optimizer.name \('sgd'\) must be one of adam, muon"
    with pytest.raises(ValueError, match=message):
        make_optimizer("sgd", 0.1, beta1=0.9, beta2=0.99)


def gradients_of_all_sizes():
    """Directions of very different size, in arrays of all kinds."""
    rng = np.random.default_rng(0)
    scales = np.logspace(0, -2, 8)
    grads = {
        "dense": rng.standard_normal((20, 8)) * scales,
        "conv": rng.standard_normal((3, 3, 16, 8)) * scales,
        "bias": rng.standard_normal(8) * scales,
        "gamma": np.float32(3.0),
    }
    return jax.tree.map(np.float32, grads)


def first_step(name, grads):
    optimizer = make_optimizer(name, 0.1, beta1=0.9, beta2=0.99)
    updates, _ = jax.jit(optimizer.update)(grads, optimizer.init(grads), grads)
    return jax.device_get(updates)


def test_adam_moves_every_number_alike():
    grads = gradients_of_all_sizes()
    for name, step in first_step("adam", grads).items():
        np.testing.assert_allclose(step, -0.1 * np.sign(grads[name]), rtol=1e-3, err_msg=name)


def test_muon_makes_steps_of_kernels_orthogonal_and_adam_moves_vectors():
    grads = gradients_of_all_sizes()
    steps = first_step("muon", grads)
    for name in ("dense", "conv"):
        step = -steps[name].reshape(-1, 8)
        sizes = np.linalg.svd(step, compute_uv=False)
        # Adam would leave the singular values of its step a hundred times apart.
        assert sizes.max() < 2 * sizes.min(), name
        assert np.sum(step * np.reshape(grads[name], step.shape)) > 0, name
        # As long as Adam's steps are: 0.2 of the rate, root mean square.
        assert np.sqrt(np.mean(step**2)) == pytest.approx(0.2 * 0.1, rel=0.35), name
    # Each number by itself, a little further than the rate: with Nesterov's momentum.
    for name in ("bias", "gamma"):
        length = np.abs(steps["gamma"])
        assert 0.1 <= length < 0.15
        np.testing.assert_allclose(steps[name], -length * np.sign(grads[name]), rtol=1e-3)


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_one_stray_gradient_does_not_carry_the_parameters_away(name):
    optimizer = make_optimizer(name, 0.05, beta1=0.9, beta2=0.99)
    rng = np.random.default_rng(0)
    target = rng.standard_normal((8, 4)).astype(np.float32)
    noises = 0.1 * rng.standard_normal((500, 8, 4)).astype(np.float32)
    strays = np.zeros_like(noises)
    strays[400] = 1e12 * rng.standard_normal((8, 4))

    def step(carry, noise_and_stray):
        params, state = carry
        noise, stray = noise_and_stray
        grads = {"kernel": params["kernel"] - target + noise + stray}
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), abs(params["kernel"] - target).max()

    params = {"kernel": np.zeros_like(target)}
    run = jax.jit(lambda carry: jax.lax.scan(step, carry, (noises, strays))[1])
    distances = run((params, optimizer.init(params)))
    assert distances[350:400].max() < 0.2
    # Muon by itself goes 2.2 away, as far as it was in the beginning.
    assert distances[400:].max() < 0.3


def test_what_had_nothing_to_learn_at_first_still_learns():
    optimizer = make_optimizer("muon", 0.05, beta1=0.9, beta2=0.99)
    params = {"kernel": np.zeros((8, 4), np.float32)}
    grads = {"kernel": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)}
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for _ in range(3):
        _, state = update(params, state, params)  # zeros
    updates, _ = update(grads, state, params)
    assert np.abs(updates["kernel"]).max() > 1e-3


def test_usual_gradients_are_left_as_they_are():
    rng = np.random.default_rng(1)
    params = {"bias": np.zeros(4, np.float32)}
    ours = make_optimizer("adam", 0.01, beta1=0.9, beta2=0.99)
    plain = optax.adam(0.01, 0.9, 0.99)
    states = [ours.init(params), plain.init(params)]
    updates = [jax.jit(ours.update), jax.jit(plain.update)]
    for _ in range(20):
        grads = {"bias": rng.uniform(0.5, 1.5, 4).astype(np.float32)}
        steps = [None, None]
        for i, update in enumerate(updates):
            steps[i], states[i] = update(grads, states[i], params)
        np.testing.assert_allclose(steps[0]["bias"], steps[1]["bias"], rtol=1e-6)
