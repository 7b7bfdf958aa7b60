"""Muon's steps against the iteration written out, in exact and in rounded products."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from uctgan_jax.muon import orthogonalize, scale_by_muon


def _few_large_directions(rng, rows, columns):
    """A matrix as gradients are: a few directions that stand out, and many small ones."""
    u, _ = np.linalg.qr(rng.standard_normal((rows, columns)))
    v, _ = np.linalg.qr(rng.standard_normal((columns, columns)))
    sizes = np.concatenate([np.full(5, 30.0), np.logspace(0, -2, columns - 5)])
    return np.float32(u * sizes @ v.T)


def _alone(matrix):
    (orthogonal,) = orthogonalize([jnp.asarray(matrix)])
    return np.asarray(orthogonal, np.float32)


@pytest.mark.parametrize("shape", [(3, 3, 16, 12), (40, 12), (12, 12), (12, 40)])
def test_a_step_is_what_the_iteration_written_out_gives(shape):
    grads = {"kernel": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    dimensions = optax.contrib.MuonDimensionNumbers(tuple(range(len(shape) - 1)), len(shape) - 1)
    whole = optax.contrib.muon(
        1.0, consistent_rms=0.2, muon_weight_dimension_numbers={"kernel": dimensions}
    )
    expected, _ = whole.update(grads, whole.init(grads), grads)
    optimizer = scale_by_muon()
    step, _ = optimizer.update(grads, optimizer.init(grads), grads)
    np.testing.assert_allclose(step["kernel"], -expected["kernel"], rtol=1e-3, atol=1e-4)


def test_momentum_is_optax_own_once_its_start_is_forgotten():
    # Optax corrects its average of gradients for the zeros it began with; a sum needs no such
    # correction, as steps do not depend on its length.
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.zeros((12, 8))}
    whole, ours = optax.contrib.muon(1.0, consistent_rms=0.2), scale_by_muon()
    update_whole, update_ours = jax.jit(whole.update), jax.jit(ours.update)
    states = whole.init(params), ours.init(params)
    for _ in range(200):
        grads = {"kernel": rng.standard_normal((12, 8)).astype(np.float32)}
        expected, left = update_whole(grads, states[0], params)
        step, right = update_ours(grads, states[1], params)
        states = left, right
    np.testing.assert_allclose(step["kernel"], -expected["kernel"], rtol=1e-2, atol=1e-3)
    alone, _ = update_ours(grads, ours.init(params), params)
    assert np.max(np.abs(step["kernel"] - alone["kernel"])) > 0.05  # the past is in it


def test_momentum_carries_on_what_gradients_agree_about():
    rng, optimizer = np.random.default_rng(0), scale_by_muon()
    agreed = np.linalg.qr(rng.standard_normal((8, 8)))[0].astype(np.float32)
    state, agreements = optimizer.init(agreed), []
    for _ in range(60):
        grads = agreed + 0.5 * rng.standard_normal((8, 8)).astype(np.float32)
        step, state = optimizer.update(grads, state, agreed)
        agreements.append(np.sum(step * agreed) / np.linalg.norm(step) / np.linalg.norm(agreed))
    assert agreements[0] < 0.75
    assert np.mean(agreements[20:]) > 0.9


@pytest.mark.parametrize("shape", [(600, 512), (512, 600)])
def test_of_a_matrix_with_two_long_sides_each_half_is_orthogonal(shape):
    grads = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    optimizer = scale_by_muon()
    step, _ = jax.jit(optimizer.update)(grads, optimizer.init(grads), grads)
    step, grads = (x if shape[0] > shape[1] else x.T for x in (np.asarray(step), grads))
    for half in (slice(256), slice(256, 512)):
        expected = 0.2 * 600**0.5 * _alone(grads[:, half])
        np.testing.assert_allclose(step[:, half], expected, atol=1e-4)
    # As long as that of the matrix in one piece.
    whole = 0.2 * 600**0.5 * _alone(grads)
    assert np.linalg.norm(step) == pytest.approx(np.linalg.norm(whole), rel=0.1)


@pytest.mark.parametrize("rows", [256, 64])
def test_rounded_products_do_not_run_off(rows):
    matrix = _few_large_directions(np.random.default_rng(0), rows, 64)
    exact = _alone(matrix)
    rounded = _alone(jnp.asarray(matrix, jnp.bfloat16))
    # Carried through all five iterations, the rounded Gram matrix is off by several times this.
    assert np.linalg.norm(rounded - exact) < 0.25 * np.linalg.norm(exact)


def test_no_gradient_is_no_step():
    np.testing.assert_array_equal(_alone(np.zeros((6, 4), np.float32)), 0.0)


def test_steps_of_many_kernels_are_those_of_each_alone_and_in_its_place():
    rng, optimizer = np.random.default_rng(0), scale_by_muon()
    shapes = [(3, 3, 16, 12), (40, 12), (12, 40), (600, 512), (16, 8), (3, 3, 16, 12), (8, 16)]
    kernels = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    update = jax.jit(optimizer.update)
    together, _ = update(kernels, optimizer.init(kernels))
    for kernel, step in zip(kernels, together, strict=True):
        alone, _ = update(kernel, optimizer.init(kernel))
        np.testing.assert_allclose(step, alone, atol=1e-4)


def test_kernels_of_one_shape_share_all_products_and_those_of_one_width_all_but_four():
    optimizer = scale_by_muon()

    def products(*rows):
        kernels = [jnp.zeros((n, 16)) for n in rows]
        lowered = jax.jit(optimizer.update).lower(kernels, optimizer.init(kernels))
        return lowered.as_text().count("stablehlo.dot_general")

    alone = products(32)
    assert alone > 3 * 4
    assert products(32, 32, 32) == alone
    # Two Gram matrices, and twice the product with the kernel.
    assert products(32, 48, 48, 64) == alone + 2 * 4
