"""The prior's first layer moves as one with white inputs would."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uctgan_jax.optimizers import make_optimizer
from uctgan_jax.prior.whitening import measure, whitened

SIZE = 6
# Two directions with most of the spread, one with next to nothing.
SPREADS = np.array([30.0, 10.0, 1.0, 0.3, 0.1, 0.02], np.float32)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    x = rng.standard_normal((256, SIZE)) * SPREADS @ turn + 5 * rng.standard_normal(SIZE)
    return x.astype(np.float32)


@pytest.fixture(scope="module")
def directions(inputs):
    """The inputs' principal directions and variances."""
    _, sizes, directions = np.linalg.svd(inputs - inputs.mean(axis=0), full_matrices=False)
    return directions, sizes**2 / len(inputs)


def params():
    return {
        "first": {"kernel": jnp.ones((SIZE, 2)), "bias": jnp.zeros(2)},
        "second": {"kernel": jnp.ones((2, 1))},
    }


def gradients(inputs, error):
    """Those of the first layer, for an error [B, 2] of its outputs."""
    count = len(inputs)
    return {
        "first": {"kernel": inputs.T @ error / count, "bias": error.mean(axis=0)},
        "second": {"kernel": jnp.ones((2, 1))},
    }


def test_inputs_are_white_in_their_frame_down_to_a_tenth_of_the_mean_variance(inputs, directions):
    center, frame = measure(inputs)
    assert center.dtype == frame.dtype == np.float32
    np.testing.assert_allclose(center, inputs.mean(axis=0), rtol=1e-4)
    directions, variances = directions
    covariance = directions.T @ np.diag(variances + 0.1 * variances.mean()) @ directions
    np.testing.assert_allclose(frame.T @ covariance @ frame, np.eye(SIZE), atol=1e-3)


def test_half_precision_inputs_are_measured_as_they_are(inputs):
    halves = inputs.astype(np.float16)
    for half, full in zip(measure(halves), measure(halves.astype(np.float64)), strict=True):
        np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-4)


def test_a_step_changes_outputs_as_a_step_of_a_layer_with_white_inputs(inputs, directions):
    """Gradient descent on white inputs does away with an error at once, whatever its direction."""
    center, frame = measure(inputs)
    optimizer = whitened(optax.sgd(1.0), layer="first", center=center, frame=frame)
    state = optimizer.init(params())
    directions, variances = directions
    floor = 0.1 * variances.mean()
    for direction, variance in zip(directions, variances, strict=True):
        centred = (inputs - inputs.mean(axis=0)) @ direction[:, None]
        error = centred * np.array([1.0, -2.0]) / np.sqrt(variance)
        updates, _ = optimizer.update(gradients(inputs, error + 0.5), state)
        change = inputs @ updates["first"]["kernel"] + updates["first"]["bias"]
        left = floor / (variance + floor) * error  # a spread under the floor's is learned slower
        np.testing.assert_allclose(change + error + 0.5, left, atol=1e-2)
        np.testing.assert_allclose(updates["second"]["kernel"], -1.0)


def test_inputs_that_are_all_the_same_have_a_frame_too():
    center, frame = measure(np.full((20, SIZE), 3.0, np.float16))
    np.testing.assert_array_equal(center, 3.0)
    assert np.isfinite(frame).all() and np.linalg.matrix_rank(frame) == SIZE


def test_fewer_inputs_than_dimensions_have_a_frame_too(inputs):
    _, frame = measure(inputs[:3])
    assert np.isfinite(frame).all() and np.linalg.matrix_rank(frame) == SIZE


def test_muon_takes_the_same_step_in_any_white_frame(inputs, directions):
    """So Cholesky's factor does for the principal directions, which cost far more to find."""
    center, frame = measure(inputs)
    directions, variances = directions
    principal = directions.T / np.sqrt(variances + 0.1 * variances.mean())
    error = np.random.default_rng(1).standard_normal((len(inputs), 2)).astype(np.float32)
    muon = make_optimizer("muon", 0.1, beta1=0.9, beta2=0.99)
    steps = []
    for white in (frame, principal.astype(np.float32)):
        optimizer = whitened(muon, layer="first", center=center, frame=white)
        updates, _ = jax.jit(optimizer.update)(
            gradients(inputs, error), optimizer.init(params()), params()
        )
        steps.append(updates["first"]["kernel"])
    assert np.abs(steps[0]).max() > 1e-3
    np.testing.assert_allclose(*steps, rtol=1e-3, atol=1e-3 * np.abs(steps[0]).max())


def test_a_restored_state_brings_its_own_frame(inputs):
    """A run that goes on moves as before, whatever was measured at its new start."""
    center, frame = measure(inputs)
    first = whitened(optax.sgd(1.0), layer="first", center=center, frame=frame)
    again = whitened(optax.sgd(1.0), layer="first", center=0 * center, frame=np.eye(SIZE))
    grads = gradients(inputs, np.ones((len(inputs), 2), np.float32))
    state = first.init(params())
    expected, _ = first.update(grads, state)
    updates, after = again.update(grads, state)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)
    np.testing.assert_array_equal(after.frame, frame)
