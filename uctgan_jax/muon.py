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
(docs/training_log.md).

Networks have many kernels of few shapes and fewer widths. Those of one shape are multiplied as one
stack, and all Gram matrices of one size go through the iterations as one: an accelerator would
start hundreds of small products one after the other.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Array = jax.Array
PyTree = Any

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
        optax.stateless(lambda updates, params: _orthogonal_steps(updates)),
    )


def _orthogonal_steps(updates: PyTree) -> PyTree:
    kernels, structure = jax.tree.flatten(updates)
    blocks = [_blocks(kernel) for kernel in kernels]
    orthogonal = iter(orthogonalize(list(itertools.chain.from_iterable(blocks))))
    steps = []
    for kernel, parts in zip(kernels, blocks, strict=True):
        step = jnp.concatenate(list(itertools.islice(orthogonal, len(parts))), axis=1)
        step = step * _STEP_LENGTH * step.shape[0] ** 0.5
        steps.append((step.T if _is_wide(kernel) else step).reshape(kernel.shape))
    return jax.tree.unflatten(structure, steps)


def _blocks(kernel: Array) -> list[Array]:
    """The matrix of a kernel, lying so that it is tall, in one piece or several side by side."""
    matrix = kernel.reshape(-1, kernel.shape[-1])
    if _is_wide(kernel):
        matrix = matrix.T
    columns = matrix.shape[1]
    return jnp.split(matrix, 1 if columns % _LONGEST_SIDE else columns // _LONGEST_SIDE, axis=1)


def _is_wide(kernel: Array) -> bool:
    return kernel.size < kernel.shape[-1] ** 2


def orthogonalize(matrices: Sequence[Array]) -> list[Array]:
    """For each a matrix with its singular vectors, and singular values of around 1.

    Values below a hundredth of the largest stay smaller. Best of [m, n] with m >= n: the Gram
    matrix is [n, n].
    """
    alike = collections.defaultdict(list)
    for i, matrix in enumerate(matrices):
        alike[matrix.shape].append(i)
    stacks = {shape: jnp.stack([matrices[i] for i in members]) for shape, members in alike.items()}
    for shape, stack in stacks.items():
        length = jnp.linalg.norm(stack, axis=(1, 2), keepdims=True)
        stacks[shape] = stack / (length + 1e-8)
    for iterations, side in itertools.product(_ITERATIONS, sorted({n for _, n in stacks})):
        shapes = [shape for shape in stacks if shape[1] == side]
        grams = jnp.concatenate([stacks[shape].mT @ stacks[shape] for shape in shapes])
        ends = np.cumsum([len(alike[shape]) for shape in shapes])
        factors = jnp.split(_polynomials(grams, iterations), ends[:-1])
        for shape, factor in zip(shapes, factors, strict=True):
            stacks[shape] = stacks[shape] @ factor
    return [stacks[matrix.shape][alike[matrix.shape].index(i)] for i, matrix in enumerate(matrices)]


def _polynomials(gram: Array, iterations: int) -> Array:
    """What `iterations` multiply matrices by, in all, by their Gram matrices [K, n, n]."""
    a, b, c = _COEFFICIENTS
    identity = jnp.eye(gram.shape[1], dtype=gram.dtype)

    def polynomial(gram: Array) -> Array:
        return a * identity + b * gram + c * gram @ gram

    product = factor = polynomial(gram)
    for _ in range(iterations - 1):
        gram = factor @ gram @ factor
        factor = polynomial(gram)
        product = product @ factor
    return product
