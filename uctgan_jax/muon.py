"""Muon's orthogonal steps, by products of the small side of a matrix.

Muon (Jordan et al., 2024) makes all singular values of a matrix's step alike, by iterations of
Newton and Schulz: X <- X (a + b X'X + c (X'X)^2). Kernels of convolutions are tall, [9C, C], and
two of an iteration's three products have the long side. But all that multiplies X is a polynomial
of the Gram matrix X'X, [C, C], as is the Gram matrix of the next iteration. So several iterations
run on that alone, and X is multiplied once for all of them. In rounded products (TF32, bfloat16)
the matrix carried so drifts away from X'X, and runs off if it is carried all the way: half-way it
is computed anew.

A Gram matrix costs the square of the side it has. A matrix whose small side is long goes in blocks
of that side, each by itself: cheaper by as many times as there are blocks, and no worse a step
(docs/training.md).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

Array = jax.Array

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan et al., 2024
_ITERATIONS = (3, 2)  # before the Gram matrix is computed anew, and after
_LONGEST_SIDE = 256  # of a Gram matrix, where the small side is a multiple of it
_MOMENTUM = 0.95
# Root mean square of a step, as of Adam's (Liu et al., 2025).
_STEP_LENGTH = 0.2


def scale_by_muon() -> optax.GradientTransformation:
    """Nesterov's momentum, then orthogonal steps as long as Adam's are.

    Of a kernel [..., features] the matrix is [what it sees, features], in blocks if both are many.
    """
    return optax.chain(
        optax.trace(_MOMENTUM, nesterov=True),
        optax.stateless(lambda updates, params: jax.tree.map(_orthogonal_step, updates)),
    )


def _orthogonal_step(update: Array) -> Array:
    matrix = update.reshape(-1, update.shape[-1])
    step = _orthogonal_blocks(matrix) * _STEP_LENGTH * max(matrix.shape) ** 0.5
    return step.reshape(update.shape)


def _orthogonal_blocks(matrix: Array) -> Array:
    rows, columns = matrix.shape
    if rows < columns:
        return _orthogonal_blocks(matrix.T).T
    if columns <= _LONGEST_SIDE or columns % _LONGEST_SIDE:
        return orthogonalize(matrix)
    blocks = matrix.reshape(rows, -1, _LONGEST_SIDE)
    return jax.vmap(orthogonalize, in_axes=1, out_axes=1)(blocks).reshape(rows, columns)


def orthogonalize(matrix: Array) -> Array:
    """A matrix with the singular vectors of `matrix` and singular values of around 1.

    Values below a hundredth of the largest stay smaller. Best of [m, n] with m >= n: the Gram
    matrix is [n, n].
    """
    a, b, c = _COEFFICIENTS
    identity = jnp.eye(matrix.shape[1], dtype=matrix.dtype)

    def polynomial(gram: Array) -> Array:
        return a * identity + b * gram + c * gram @ gram

    matrix = matrix / (jnp.linalg.norm(matrix) + 1e-8)
    for iterations in _ITERATIONS:
        gram = matrix.T @ matrix
        product = factor = polynomial(gram)
        for _ in range(iterations - 1):
            gram = factor @ gram @ factor
            factor = polynomial(gram)
            product = product @ factor
        matrix = matrix @ product
    return matrix
