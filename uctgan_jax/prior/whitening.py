"""Preconditioning of the learned prior's first layer with the inverse covariance of its inputs.

The layer sees E2's coarse maps. Most of their variance lies along a few directions (background,
hair, clothes); what a few known pixels tell lies along others with a thousandth of it, which plain
gradients learn far too slowly. The layer's kernel therefore moves as one whose inputs have unit
variance in all directions would (Desjardins et al., 2015, "Natural Neural Networks").
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

Array = jax.Array

# Added to every direction's variance, as a share of the mean variance: with less, directions that
# say nothing let the prior learn single pictures by heart.
_FLOOR = 0.1
_LEAST_VARIANCE = 1e-12  # for inputs that are all the same


class WhitenedState(NamedTuple):
    """What the optimiser carries.

    Attributes:
      center: [D], the inputs' mean.
      frame: [D, D], F with F F' the inverse covariance: its columns are the white directions.
      inner: the state of the optimiser of white coordinates.
    """

    center: Array
    frame: Array
    inner: optax.OptState


def measure(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The `center` and `frame` of a layer's inputs, float [N, D].

    Returns:
      float32 [D] and [D, D].
    """
    inputs = np.asarray(inputs, np.float32)
    center = inputs.mean(axis=0, dtype=np.float64)
    covariance = (inputs.T @ inputs).astype(np.float64) / len(inputs) - np.outer(center, center)
    floor = max(_FLOOR * np.trace(covariance) / len(center), _LEAST_VARIANCE)
    factor = np.linalg.cholesky(covariance + floor * np.eye(len(center)))
    return center.astype(np.float32), np.linalg.inv(factor).T.astype(np.float32)


def whitened(
    optimizer: optax.GradientTransformation, *, layer: str, center: np.ndarray, frame: np.ndarray
) -> optax.GradientTransformation:
    """`optimizer`, for one layer in coordinates in which its inputs are white.

    With inputs x of mean c, the layer W'x + b is V'F'(x - c) + a, for W = FV and b = a - c'W. The
    optimiser sees the gradients of V and a, and its updates are taken back to W and b.

    Args:
      optimizer: for all parameters.
      layer: name of the layer among them, {"kernel": [D, E], "bias": [E]}.
      center, frame: of its inputs, from `measure`. They are part of the state, and a restored state
        brings its own.
    """

    def init(params: optax.Params) -> WhitenedState:
        return WhitenedState(jnp.asarray(center), jnp.asarray(frame), optimizer.init(params))

    def update(
        updates: optax.Updates, state: WhitenedState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, WhitenedState]:
        center, frame, inner = state
        kernel, bias = updates[layer]["kernel"], updates[layer]["bias"]
        white = {"kernel": _dot(frame.T, kernel - jnp.outer(center, bias)), "bias": bias}
        updates, inner = optimizer.update(updates | {layer: white}, inner, params)
        kernel = _dot(frame, updates[layer]["kernel"])
        step = {"kernel": kernel, "bias": updates[layer]["bias"] - _dot(center, kernel)}
        return updates | {layer: step}, WhitenedState(center, frame, inner)

    return optax.GradientTransformation(init, update)


def _dot(a: Array, b: Array) -> Array:
    """A product in full float32: directions of little spread would drown in a TPU's rounding."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)
