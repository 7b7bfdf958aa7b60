"""The prior's first layer moves as one with white inputs would."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uctgan_jax.muon import scale_by_muon
from uctgan_jax.prior import whitening
from uctgan_jax.prior.whitening import measure, whitened

SIZE, NEEDED = 6, 48
# Two directions with most of the spread, one with next to nothing.
SPREADS = np.array([30.0, 10.0, 1.0, 0.3, 0.1, 0.02], np.float32)


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0]
    x = rng.standard_normal((4096, SIZE)) * SPREADS @ turn + 5 * rng.standard_normal(SIZE)
    return x.astype(np.float32)


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


def measured(optimizer, inputs):
    """The state after it saw these inputs, 16 at a time."""
    state = optimizer.init(params())
    for start in range(0, len(inputs), 16):
        state = measure(state, inputs[start : start + 16])
    return state


def test_a_step_changes_outputs_as_a_step_of_a_layer_with_white_inputs(inputs):
    """Gradient descent on white inputs does away with an error at once, whatever its direction."""
    inputs = inputs[:NEEDED]  # what is measured
    optimizer = whitened(optax.sgd(1.0), layer="first")
    state = measured(optimizer, inputs)
    centred = inputs - inputs.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    variances = sizes**2 / len(inputs)
    floor = 0.1 * variances.mean()
    for direction, variance in zip(directions, variances, strict=True):
        error = centred @ direction[:, None] * np.array([1.0, -2.0]) / np.sqrt(variance)
        updates, _ = optimizer.update(gradients(inputs, error + 0.5), state)
        change = inputs @ updates["first"]["kernel"] + updates["first"]["bias"]
        left = floor / (variance + floor) * error  # a spread under the floor's is learned slower
        np.testing.assert_allclose(change + error + 0.5, left, atol=2e-3)
        np.testing.assert_allclose(updates["second"]["kernel"], -1.0)


def test_coordinates_are_the_layers_own_until_enough_inputs_were_seen(inputs):
    plain, optimizer = optax.sgd(0.1), whitened(optax.sgd(0.1), layer="first")
    grads = gradients(inputs, np.ones((len(inputs), 2), np.float32))
    expected, _ = plain.update(grads, plain.init(params()))

    state = measured(optimizer, inputs[: NEEDED - 16])
    updates, _ = optimizer.update(grads, state)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)

    state = measured(optimizer, inputs[:NEEDED])
    assert state.count == NEEDED
    updates, _ = optimizer.update(grads, state)
    assert not np.allclose(updates["first"]["kernel"], expected["first"]["kernel"])


def test_a_step_beside_others_has_no_choice_of_coordinates(inputs):
    """A GPU waits for its host at each."""
    plain, optimizer = optax.sgd(0.1), whitened(optax.sgd(0.1), layer="first")
    grads = gradients(inputs, np.ones((len(inputs), 2), np.float32))
    expected, _ = plain.update(grads, plain.init(params()))

    beside = functools.partial(optimizer.update, alone=False)
    state = measured(optimizer, inputs[:NEEDED])
    updates, after = beside(grads, state)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)
    jax.tree.map(np.testing.assert_array_equal, after.matrix, state.matrix)
    assert "cond[" not in str(jax.make_jaxpr(beside)(grads, state))
    assert "cond[" in str(jax.make_jaxpr(optimizer.update)(grads, state))


def test_the_optimiser_begins_anew_when_coordinates_change(inputs):
    optimizer = whitened(optax.trace(0.9), layer="first")
    state = optimizer.init(params())
    ones = jax.tree.map(jnp.ones_like, params())
    for start in range(0, NEEDED, 16):
        _, state = optimizer.update(ones, measure(state, inputs[start : start + 16]))
        expected = 1.0 if start + 16 == NEEDED else 1 + 0.9 * (start // 16)
        np.testing.assert_allclose(state.inner.trace["second"]["kernel"], expected, rtol=1e-6)


def test_inputs_are_measured_over_all_devices(inputs):
    state = whitened(optax.sgd(1.0), layer="first").init(params())
    alone = measure(state, inputs[:32])
    shares = inputs[:32].reshape(4, 8, SIZE)
    together = jax.vmap(measure, (None, 0, None), axis_name="data")(state, shares, "data")
    for name in ("count", "center", "matrix"):
        for share in getattr(together, name):
            np.testing.assert_allclose(share, getattr(alone, name), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_count_as_ones_like_those_before(inputs, value):
    batches = inputs[:NEEDED].reshape(3, 16, SIZE).copy()
    batches[1, 5, 2] = value
    optimizer = whitened(optax.sgd(1.0), layer="first")
    state = measured(optimizer, np.concatenate(batches))
    assert state.count == NEEDED
    before, after = batches[0], batches[2]
    alike = measured(optimizer, np.concatenate([before, before, after]))
    for name in ("center", "matrix"):
        np.testing.assert_allclose(getattr(state, name), getattr(alike, name), rtol=1e-3, atol=1e-3)


def test_inputs_that_are_all_the_same_have_a_frame_too():
    state = measured(whitened(optax.sgd(1.0), layer="first"), np.zeros((NEEDED, SIZE), np.float32))
    assert np.isfinite(state.matrix).all() and np.linalg.matrix_rank(state.matrix) == SIZE


def test_muon_takes_the_same_step_in_any_white_frame(inputs, monkeypatch):
    """So Cholesky's factor does for the principal directions, which cost far more to find."""

    def principal(center, moment):
        variances, directions = jnp.linalg.eigh(moment - jnp.outer(center, center))
        return directions / jnp.sqrt(variances + whitening._FLOOR * variances.mean())

    error = np.random.default_rng(1).standard_normal((4096, 2)).astype(np.float32)
    optimizer = whitened(scale_by_muon(), layer="first")
    steps = []
    for frame in (whitening._frame, principal):
        monkeypatch.setattr(whitening, "_frame", frame)
        state = measured(optimizer, inputs[:NEEDED])
        step, _ = optimizer.update(gradients(inputs, error), state)
        steps.append(step["first"]["kernel"])
    assert np.abs(steps[0]).max() > 1e-3
    np.testing.assert_allclose(*steps, rtol=1e-3, atol=1e-3 * np.abs(steps[0]).max())


def test_restarting_forgets_steps_and_keeps_what_was_measured(inputs):
    optimizer = optax.chain(
        whitened(scale_by_muon(), layer="first"), optax.scale_by_schedule(lambda count: 1.0)
    )
    state = measured(optimizer, inputs[:NEEDED])
    grads = gradients(inputs, np.ones((len(inputs), 2), np.float32))
    first, later = optimizer.update(grads, state)
    assert any(np.any(x) for x in jax.tree.leaves(later[0].inner))
    again = whitening.restarted(later)
    assert not any(np.any(x) for x in jax.tree.leaves(again[0].inner))
    np.testing.assert_array_equal(again[0].matrix, state[0].matrix)
    assert again[0].count == NEEDED and again[1].count == 1
    updates, _ = optimizer.update(grads, again)
    jax.tree.map(np.testing.assert_array_equal, updates, first)
