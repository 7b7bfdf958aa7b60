"""Steps of the conditional prior's first layer, taken as if its inputs were white.

The layer sees the coarsest maps of E2. Nearly all that differs from picture to picture there lies
along a few directions: background, hair, clothes. What a few pixels tell, as a rim of skin under a
helmet, lies along others, whose spread is a thousand times less, and gradients along those are
smaller by as much: learned in the end, but not in a run's time. So the layer's inputs are measured
first, and from then on its kernel moves as one whose inputs have a spread of 1 in all directions
would (Desjardins et al., 2015, "Natural Neural Networks"). What the layer is, and what it computes,
stays the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Array = jax.Array

_INPUTS_PER_DIMENSION = 8  # to measure before
# Of the mean variance. Directions with less are learned as much more slowly: they say little, but
# there are so many of them that with a lower floor pictures are learned by heart.
_FLOOR = 0.1
_LEAST_VARIANCE = 1e-12  # of inputs that are all the same, which have no frame otherwise


class WhitenedState(NamedTuple):
    """What the optimiser carries.

    Attributes:
      count: float32 [], inputs measured so far.
      center: [D], their mean.
      matrix: [D, D], while they are measured their second moment; from then on the frame F, whose
        columns are the white directions.
      inner: the state of the optimiser of white coordinates.
    """

    count: Array
    center: Array
    matrix: Array
    inner: optax.OptState


def whitened(
    optimizer: optax.GradientTransformation, *, layer: str
) -> optax.GradientTransformationExtraArgs:
    """`optimizer`, for one layer in coordinates in which its inputs are white.

    With inputs x of mean c, the layer W'x + b is V'F'(x - c) + a, for W = FV and b = a - c'W. The
    optimiser sees the gradients of V and a, and its updates are taken back to W and b.

    Until `measure` has seen enough inputs, the coordinates are the layer's own. When they change,
    `optimizer` begins anew, so schedules go behind this, not into it. With `alone=False`, `update`
    takes it that nothing was measured: a program without a choice between coordinates, for which a
    GPU would wait for its host.

    Args:
      optimizer: for all parameters; its state begins with zeros.
      layer: name of the layer among them, {"kernel": [D, E], "bias": [E]}.
    """

    def init(params: optax.Params) -> WhitenedState:
        size = params[layer]["kernel"].shape[0]
        return WhitenedState(
            count=jnp.zeros(()),
            center=jnp.zeros(size),
            matrix=jnp.zeros((size, size)),
            inner=optimizer.init(params),
        )

    def update(
        updates: optax.Updates,
        state: WhitenedState,
        params: optax.Params | None = None,
        *,
        alone: bool = True,
        **_: Any,
    ) -> tuple[optax.Updates, WhitenedState]:
        if not alone:
            updates, inner = optimizer.update(updates, state.inner, params)
            return updates, state._replace(inner=inner)
        white = state.count >= inputs_needed(state.center.size)
        center = jnp.where(white, state.center, 0.0)

        def turned(turn: Callable[[Array, Array], Array], kernel: Array) -> Array:
            return jax.lax.cond(white, turn, lambda _, kernel: kernel, state.matrix, kernel)

        def there(gradient: dict[str, Array]) -> dict[str, Array]:
            kernel = gradient["kernel"] - jnp.outer(center, gradient["bias"])
            kernel = turned(lambda frame, kernel: _dot(frame.T, kernel), kernel)
            return {"kernel": kernel, "bias": gradient["bias"]}

        def back(step: dict[str, Array]) -> dict[str, Array]:
            kernel = turned(_dot, step["kernel"])
            return {"kernel": kernel, "bias": step["bias"] - _dot(center, kernel)}

        updates, inner = optimizer.update(
            updates | {layer: there(updates[layer])}, state.inner, params
        )
        return updates | {layer: back(updates[layer])}, state._replace(inner=inner)

    return optax.GradientTransformationExtraArgs(init, update)


def inputs_needed(size: int) -> int:
    """How many inputs of D = `size` numbers are measured before steps are taken in white ones."""
    return _INPUTS_PER_DIMENSION * size


def measure(
    opt_state: optax.OptState, inputs: Array, axis_name: str | None = None
) -> optax.OptState:
    """Measures some of the inputs that `inputs_needed` asks for, and no more than those.

    A program of its own: in that of the step, a matrix that may change is copied at every step.

    Args:
      opt_state: of an optimiser with a `whitened` one in it.
      inputs: what the layer sees, float32 [B, D].
      axis_name: if these are one device's share, the mapped axis of the others.

    Returns:
      The state with them, and with the white coordinates when they were the last needed.
    """

    def measured(state: WhitenedState) -> WhitenedState:
        count = jnp.float32(len(inputs))
        mean, moment = inputs.mean(axis=0), _dot(inputs.T, inputs) / count
        if axis_name is not None:
            count = jax.lax.psum(count, axis_name)
            mean, moment = jax.lax.pmean((mean, moment), axis_name)
        # Inputs that are not finite count as ones like those before them: a step that sees them
        # changes nothing either.
        finite = jnp.isfinite(moment).all()
        mean = jnp.where(finite, mean, state.center)
        moment = jnp.where(finite, moment, state.matrix)
        share = count / (state.count + count)
        state = state._replace(
            count=state.count + count,
            center=state.center + share * (mean - state.center),
            matrix=state.matrix + share * (moment - state.matrix),
        )
        return jax.lax.cond(
            state.count >= inputs_needed(state.center.size), in_white, lambda state: state, state
        )

    def in_white(state: WhitenedState) -> WhitenedState:
        return _restarted(state._replace(matrix=_frame(state.center, state.matrix)))

    return _of_whitened(measured, opt_state)


def restarted(opt_state: optax.OptState) -> optax.OptState:
    """The state for other parameters: nothing of the steps before, but all that was measured."""
    return _of_whitened(_restarted, opt_state)


def _restarted(state: WhitenedState) -> WhitenedState:
    return state._replace(inner=jax.tree.map(jnp.zeros_like, state.inner))


def _of_whitened(
    change: Callable[[WhitenedState], WhitenedState], opt_state: optax.OptState
) -> optax.OptState:
    def is_whitened(node: object) -> bool:
        return isinstance(node, WhitenedState)

    return jax.tree.map(
        lambda node: change(node) if is_whitened(node) else node, opt_state, is_leaf=is_whitened
    )


def _frame(center: Array, moment: Array) -> Array:
    """White directions of inputs of this mean and second moment: F F' is their inverse covariance.

    By Cholesky's factor: Muon makes the same steps in any such frame, turned, and the principal
    directions of thousands of inputs take TPUs' compiler more than twenty minutes.
    """
    covariance = moment - jnp.outer(center, center)
    identity = jnp.eye(len(center))
    floor = jnp.maximum(_FLOOR * jnp.trace(covariance) / len(center), _LEAST_VARIANCE)
    factor = jnp.linalg.cholesky(covariance + floor * identity)
    return jax.scipy.linalg.solve_triangular(factor, identity, lower=True).T


def _dot(a: Array, b: Array) -> Array:
    """A product in full float32: directions of little spread would drown in a TPU's rounding."""
    return jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST)
