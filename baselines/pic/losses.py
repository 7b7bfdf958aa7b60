"""The losses of PIC that UCTGAN does not have, as pure functions of arrays.

Each is a mean over the batch of one number a picture, as in `uctgan_jax.losses`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

Array = jax.Array


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """The weight of each kind of term, the same on both paths."""

    kl: float
    appearance: float
    adversarial: float
    gradient_penalty: float  # R1 of both discriminators (ours)


def kl_divergence(
    *, mean: Array, log_variance: Array, prior_mean: Array, prior_log_variance: Array
) -> Array:
    """KL(N(mean, exp(log_variance)) || prior) in nats, summed over the code.

    Args:
      mean, log_variance: of the posterior, [B, h, w, C].
      prior_mean, prior_log_variance: of the prior; broadcast to them.
    """
    difference = log_variance - prior_log_variance
    distance = jnp.square(mean - prior_mean) * jnp.exp(-prior_log_variance)
    terms = jnp.exp(difference) + distance - 1.0 - difference
    return 0.5 * jnp.mean(jnp.sum(terms, axis=(1, 2, 3)))


def feature_matching(*, features: Array, target_features: Array) -> Array:
    """The reconstructive path's adversarial term: mean squared difference of features.

    Args:
      features, target_features: the last map that the discriminator makes of the reconstruction
        and of the picture, [B, h, w, C].
    """
    return jnp.mean(jnp.square(features - target_features))


def least_squares_generator(*, fake_scores: Array) -> Array:
    """The generative path's adversarial term: (D(fake) - 1)^2 (LSGAN; Mao et al., 2017)."""
    return jnp.mean(jnp.square(fake_scores - 1.0))


def least_squares_discriminator(*, real_scores: Array, fake_scores: Array) -> Array:
    """A discriminator's loss: half of (D(real) - 1)^2 + D(fake)^2, scores [B] each."""
    return 0.5 * jnp.mean(jnp.square(real_scores - 1.0) + jnp.square(fake_scores))
