"""The optimisers of E1, E2 and G, of D, and of a learned prior, and their learning rates."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

OPTIMIZERS = ("adam", "muon")

# Of gradients, against how long they have been lately.
_LONGEST_GRADIENT = 4.0
_LATELY = 0.99  # what a step leaves of the average before it
# Muon's steps are made as long as Adam's are (Liu et al., 2025), so that rates are of one kind.
_MUON_RMS = 0.2


class Optimizers(NamedTuple):
    """One for E1, E2 and G together, and one for D."""

    generator: optax.GradientTransformation
    discriminator: optax.GradientTransformation


def make_optimizers(
    *,
    name: str,
    generator_learning_rate: float,
    discriminator_learning_rate: float,
    beta1: float,
    beta2: float,
    decay_share: float,
    num_steps: int,
    reconstruction_steps: int = 0,
) -> Optimizers:
    """The optimisers of a run.

    Rates are constant and fall linearly to 0 over the last `decay_share` of the steps. D takes no
    part in the first `reconstruction_steps`, and counts its own.

    Args:
      name: one of `OPTIMIZERS`.
      generator_learning_rate, discriminator_learning_rate: at the start.
      beta1, beta2: of Adam; with Muon, of what is no matrix.
      decay_share: in [0, 1].
      num_steps: of the whole run.
      reconstruction_steps: the first of them, without D.
    """
    first = min(reconstruction_steps, num_steps)
    decay_steps = round(decay_share * num_steps)
    rates = falling_rate(generator_learning_rate, num_steps, decay_steps)
    judge = falling_rate(discriminator_learning_rate, num_steps - first, decay_steps)
    betas = dict(beta1=beta1, beta2=beta2)
    return Optimizers(
        generator=make_optimizer(name, rates, **betas),
        discriminator=make_optimizer(name, judge, **betas),
    )


def falling_rate(learning_rate: float, num_steps: int, decay_steps: int) -> optax.Schedule:
    """A constant rate that falls linearly to 0 over the last `decay_steps` of `num_steps`."""
    # A schedule that would have begun to fall before its first step begins lower.
    begin = num_steps - decay_steps
    if decay_steps < 1:
        return optax.constant_schedule(learning_rate)
    start = learning_rate * min(1.0, num_steps / decay_steps)
    return optax.linear_schedule(start, 0.0, min(decay_steps, num_steps), max(begin, 0))


def make_optimizer(
    name: str, learning_rate: optax.ScalarOrSchedule, *, beta1: float, beta2: float
) -> optax.GradientTransformation:
    """Adam, or Muon for matrices and kernels with Adam for the rest, after `clip_stray_gradients`.

    Args:
      name: one of `OPTIMIZERS`.
      learning_rate: a number or an Optax schedule.
      beta1, beta2: of Adam.

    Raises:
      ValueError: for another name.
    """
    if name == "adam":
        steps = optax.adam(learning_rate, beta1, beta2)
    elif name == "muon":
        steps = muon(
            learning_rate,
            adam_b1=beta1,
            adam_b2=beta2,
            consistent_rms=_MUON_RMS,
            muon_weight_dimension_numbers=_matrices,
        )
    else:
        raise ValueError(f"optimizer.name ({name!r}) must be one of {', '.join(OPTIMIZERS)}")
    return optax.chain(clip_stray_gradients(), steps)


def _matrices(params: optax.Params) -> optax.Params:
    """How Muon sees each array: a kernel [..., features] as the matrix [what it sees, features]."""
    return jax.tree.map(
        lambda x: (
            MuonDimensionNumbers(tuple(range(x.ndim - 1)), x.ndim - 1) if x.ndim > 1 else None
        ),
        params,
    )


class UsualLength(NamedTuple):
    """How long gradients have been: the sum of their lengths and of the weights it is made with."""

    total: jax.Array
    weight: jax.Array


def clip_stray_gradients() -> optax.GradientTransformation:
    """Shortens gradients to four times the average length of those before.

    Momentum would follow a single stray one for hundreds of steps.
    """

    def init(params: optax.Params) -> UsualLength:
        return UsualLength(jnp.zeros(()), jnp.zeros(()))

    def update(
        updates: optax.Updates, state: UsualLength, params: optax.Params | None = None
    ) -> tuple[optax.Updates, UsualLength]:
        length = optax.tree.norm(updates)
        usual = state.total / jnp.maximum(state.weight, 1e-6)
        # An average of 0 sets no limit: a D whose first gradients were 0 would never learn.
        limit = jnp.where(usual > 0, _LONGEST_GRADIENT * usual, length)
        scale = jnp.minimum(1.0, limit / jnp.maximum(length, 1e-30))
        state = UsualLength(
            total=_LATELY * state.total + (1 - _LATELY) * scale * length,
            weight=_LATELY * state.weight + (1 - _LATELY),
        )
        return jax.tree.map(lambda x: scale * x, updates), state

    return optax.GradientTransformation(init, update)
