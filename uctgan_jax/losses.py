"""The losses of UCTGAN as pure functions of arrays.

Each is a mean over the batch of one number a picture, so that the mean over devices of equal shares
equals the loss of the whole batch. Pictures are [B, H, W, C] in [-1, 1], folded into patches or
not; masks are [B, H, W, 1] or of the pictures' shape, with 1 = hole. The paper names four terms:
condition constraint, KL divergence, reconstruction and adversarial loss. Norms, weights and the
terms marked as ours are our choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """The weight of each term; 0 turns a term off, and its computation with it."""

    reconstruction: float  # L_rec over the whole picture
    reconstruction_hole: float  # L_rec over the hole alone (ours)
    reconstruction_square: float  # the same, squared (ours)
    perceptual: float  # LPIPS of the reconstruction (ours)
    condition_l1: float  # L_cc in image space
    manifold_l1: float  # L_cc in manifold space
    kl: float  # L_KL on both codes
    adversarial: float  # L_adv on both paths
    gradient_penalty: float  # R1 and R2 of D, beside its own loss (ours)


def reconstruction_l1(*, reconstruction: Array, target: Array) -> Array:
    """L_rec: the picture's own code gives the picture back. Mean |I_r - I_g| over pixels."""
    return jnp.mean(jnp.abs(reconstruction - target))


def hole_l1(*, reconstruction: Array, target: Array, mask: Array) -> Array:
    """L_rec inside the hole: mean |I_r - I_g| over each picture's hole, 0 without a hole.

    Holes of any size weigh alike, which the mean over the whole picture does not give.
    """
    return _masked_mean(jnp.abs(reconstruction - target), mask)


def hole_square(*, reconstruction: Array, target: Array, mask: Array) -> Array:
    """L_rec inside the hole, squared: mean (I_r - I_g)^2 over each picture's hole.

    The gradient of `hole_l1` is as large for a pixel that is a little off as for one of a part that
    is missing, and there are far more of the first kind. This gradient points at what is missing.
    """
    return _masked_mean(jnp.square(reconstruction - target), mask)


def condition_l1(*, completion: Array, target: Array, mask: Array) -> Array:
    """L_cc in image space: I_c keeps the known pixels. Mean |I_c - I_g| over them."""
    return _masked_mean(jnp.abs(completion - target), 1.0 - mask)


def manifold_l1(*, code: Array, target_code: Array) -> Array:
    """L_cc in manifold space: I_c and I_i share a code. Mean |E1(I_c) - z_i| over Z.

    The caller decides where the gradient goes (BicycleGAN's latent regression sends it to the
    generator alone, lest E1 satisfy the term by itself).
    """
    return jnp.mean(jnp.abs(code - target_code))


def kl_divergence(*, mean: Array, log_variance: Array) -> Array:
    """L_KL: KL(N(mean, exp(log_variance)) || N(0, I)) in nats, summed over Z."""
    terms = jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance
    return 0.5 * jnp.mean(jnp.sum(terms, axis=-1))


def relativistic_discriminator(*, real_logits: Array, fake_logits: Array) -> Array:
    """L_adv for D: each picture's own completion is less real than the picture.

    Softplus(D(fake) - D(real)), summed over D's logits and averaged over pairs, [B, L] each
    (Jolicoeur-Martineau, 2019; with R1 and R2 in Huang et al., 2024): ln 2 a logit where D cannot
    tell them apart.
    """
    return jnp.mean(jnp.sum(jax.nn.softplus(fake_logits - real_logits), axis=-1))


def relativistic_generator(*, real_logits: Array, fake_logits: Array) -> Array:
    """L_adv for the generator: each completion is more real than its picture."""
    return jnp.mean(jnp.sum(jax.nn.softplus(real_logits - fake_logits), axis=-1))


def gradient_penalty(discriminate: Callable[[PyTree], Array], inputs: PyTree) -> Array:
    """R1 (at real pictures) or R2 (at fakes): half the mean squared length of D's gradient.

    Mescheder et al., 2018: D's gradient at what it judges is to vanish at equilibrium.

    Args:
      discriminate: inputs to logits [B, L], each picture by itself.
      inputs: where: pictures [B, ...], or a tree of all that D sees of them.
    """
    gradients = jax.grad(lambda x: jnp.sum(discriminate(x)))(inputs)
    squares = [jnp.sum(jnp.square(x)) / len(x) for x in jax.tree.leaves(gradients)]
    return 0.5 * jnp.sum(jnp.stack(squares))


def _masked_mean(errors: Array, weight: Array) -> Array:
    """Mean over each picture's pixels with weight 1, then over the batch."""
    weight = jnp.broadcast_to(weight, errors.shape)
    total = jnp.sum(errors * weight, axis=(1, 2, 3))
    count = jnp.sum(weight, axis=(1, 2, 3))
    return jnp.mean(total / jnp.maximum(count, 1.0))
