"""The optimisers of the players and the courses of their learning rates."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from uctgan_jax.muon import scale_by_muon
from uctgan_jax.prior.flow import CONDITION_LAYER
from uctgan_jax.prior.whitening import whitened
from uctgan_jax.train_state import Optimizers

# Muon's rate is meant for matrices. Biases and the gain of the attention move by Adam, at this
# share of it.
_VECTOR_RATE = 0.3

# Of gradients, against how long they have been lately.
_LONGEST_GRADIENT = 4.0
_LATELY = 0.99  # what a step leaves of the average before it


def make_optimizers(
    *,
    generator_learning_rate: float,
    prior_learning_rate: float,
    discriminator_learning_rate: float,
    beta1: float,
    beta2: float,
    decay_share: float,
    num_steps: int,
    reconstruction_steps: int = 0,
    prior_steps: int = 0,
) -> Optimizers:
    """Muon: for E1, E2 and G together, for D, and, with its inputs whitened, for the prior.

    Muon makes a matrix's step orthogonal, and as long as Adam's steps are, so that rates are of one
    kind (`muon.py`). Before, gradients are shortened to four times their usual length: Muon's
    momentum would follow a single stray one for hundreds of steps at the full rate, whatever its
    length.

    Rates are constant and fall linearly to 0 over the last `decay_share` of the steps: of all
    `num_steps` the prior's, of those before the last `prior_steps` the others', which then stand
    still. D and the prior take no part in the first `reconstruction_steps`, and count their own.

    Args:
      generator_learning_rate, prior_learning_rate, discriminator_learning_rate: at the start.
      beta1, beta2: of Adam, which moves what is no matrix.
      decay_share: in [0, 1].
      num_steps: of the whole run.
      reconstruction_steps: the first of them, without D and the prior.
      prior_steps: the last of them, the prior's alone.
    """

    def falling(
        steps: optax.GradientTransformation, learning_rate: float, first: int, last: int
    ) -> optax.GradientTransformation:
        decay_steps = max(round(decay_share * last), 1)

        def schedule(count: jax.Array) -> jax.Array:
            return learning_rate * jnp.clip((last - first - count) / decay_steps, 0.0, 1.0)

        return optax.chain(steps, optax.scale_by_learning_rate(schedule))

    muon, last = _muon(beta1, beta2), num_steps - prior_steps
    first = min(reconstruction_steps, last)
    return Optimizers(
        generator=falling(muon, generator_learning_rate, 0, last),
        prior=falling(whitened(muon, layer=CONDITION_LAYER), prior_learning_rate, first, num_steps),
        discriminator=falling(muon, discriminator_learning_rate, first, last),
    )


def _muon(beta1: float, beta2: float) -> optax.GradientTransformation:
    """Steps for a rate to scale: Muon's of matrices, Adam's of the rest; none is a stray one."""
    return optax.chain(
        _clip_stray_gradients(),
        optax.partition(
            {
                "matrix": scale_by_muon(),
                "vector": optax.chain(
                    optax.scale_by_adam(beta1, beta2, nesterov=True), optax.scale(_VECTOR_RATE)
                ),
            },
            lambda params: jax.tree.map(lambda x: "matrix" if x.ndim > 1 else "vector", params),
        ),
    )


class _UsualLength(NamedTuple):
    """How long gradients have been: the sum of their lengths and of the weights it is made with."""

    total: jax.Array
    weight: jax.Array


def _clip_stray_gradients() -> optax.GradientTransformation:
    """Shortens gradients to `_LONGEST_GRADIENT` times the average length of those before."""

    def init(params: optax.Params) -> _UsualLength:
        return _UsualLength(jnp.zeros(()), jnp.zeros(()))

    def update(
        updates: optax.Updates, state: _UsualLength, params: optax.Params | None = None
    ) -> tuple[optax.Updates, _UsualLength]:
        length = optax.tree.norm(updates)
        usual = state.total / jnp.maximum(state.weight, 1e-6)
        # Zeros are not usual: a D that had nothing to learn yet would never learn anything.
        limit = jnp.where(usual > 0, _LONGEST_GRADIENT * usual, length)
        scale = jnp.minimum(1.0, limit / jnp.maximum(length, 1e-30))
        state = _UsualLength(
            total=_LATELY * state.total + (1 - _LATELY) * scale * length,
            weight=_LATELY * state.weight + (1 - _LATELY),
        )
        return jax.tree.map(lambda x: scale * x, updates), state

    return optax.GradientTransformation(init, update)
