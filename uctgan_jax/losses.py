"""The losses of UCTGAN as pure functions of arrays.

Each is a mean over the batch of one number a picture, so that the mean over devices of equal
shares equals the loss of the whole batch. Pictures are [B, H, W, C] in [-1, 1], folded into
patches or not; masks are [B, H, W, 1] or of the pictures' shape, with 1 = hole. The paper names
the four terms; norms and weights are our choice.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


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
    is missing, and there are far more of the first kind. This one's is of what is missing.
    """
    return _masked_mean(jnp.square(reconstruction - target), mask)


def known_l1(*, completion: Array, target: Array, mask: Array) -> Array:
    """L_cc in image space: I_c keeps the known pixels. Mean |I_c - I_g| over them."""
    return _masked_mean(jnp.abs(completion - target), 1.0 - mask)


def manifold_l1(*, code: Array, target_code: Array) -> Array:
    """L_cc in manifold space: I_c has the code it was made with. Mean |E1(I_c) - z_c| over Z.

    The caller decides where the gradient goes (BicycleGAN's latent regression sends it to the
    generator alone, lest E1 satisfy the term by itself).
    """
    return jnp.mean(jnp.abs(code - target_code))


def kl_divergence(*, mean: Array, log_variance: Array) -> Array:
    """L_KL: KL(N(mean, exp(log_variance)) || N(0, I)) in nats, summed over Z."""
    terms = jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance
    return 0.5 * jnp.mean(jnp.sum(terms, axis=-1))


def flow_matching(
    *, velocity: Array, way: Array, time: Array, mean: Array, log_variance: Array
) -> Array:
    """The prior's loss: mean squared error of the velocity from noise straight to a code, over Z.

    Lipman et al., 2023, with straight ways. A code of N(mean, exp(log_variance)) and noise that met
    at `way` may have been any that meet there: the target is the mean velocity of all of them,
    known in closed form. Its gradients are those of the drawn pair's on average, and vary less.

    Args:
      velocity: at `way`, [B, N, Z].
      way: (1 - time) * noise + time * code, [B, N, Z].
      time: in [0, 1), [B, N].
      mean, log_variance: of the codes, [B, Z].
    """
    time, mean = time[..., None], mean[:, None]
    variance = jnp.exp(log_variance)[:, None]
    # Of way, and of it with the velocity, code - noise.
    spread = jnp.square(1.0 - time) + jnp.square(time) * variance
    covariance = time * variance - (1.0 - time)
    return jnp.mean(jnp.square(velocity - mean - covariance / spread * (way - time * mean)))


def hinge_discriminator(*, real_logits: Array, fake_logits: Array) -> Array:
    """L_adv for D: real logits above 1, fake logits below -1 (Lim & Ye, 2017)."""
    return jnp.mean(jax.nn.relu(1.0 - real_logits)) + jnp.mean(jax.nn.relu(1.0 + fake_logits))


def hinge_generator(*, fake_logits: Array) -> Array:
    """L_adv for the generator: fake logits as high as they go."""
    return -jnp.mean(fake_logits)


def _masked_mean(errors: Array, weight: Array) -> Array:
    """Mean over each picture's pixels with weight 1, then over the batch."""
    weight = jnp.broadcast_to(weight, errors.shape)
    total = jnp.sum(errors * weight, axis=(1, 2, 3))
    count = jnp.sum(weight, axis=(1, 2, 3))
    return jnp.mean(total / jnp.maximum(count, 1.0))
