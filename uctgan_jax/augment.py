"""Random changes of pictures inside the training step, each drawn from its example's own key.

Pictures and masks are patches, [B, h, w, n*3] and [B, h, w, n] for n pixels a patch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def jitter_colours(images: Array, keys: Array, strength: float) -> Array:
    """Another gain and offset for each channel: what E1 sees, so that codes do not hold colours.

    The target stays as it is, so colours have to come from the condition [our addition].

    Args:
      images: patches in [-1, 1].
      keys: `jax.random.key` array [B].
      strength: 0 changes nothing; 1 draws gains from [0.5, 1.2] and offsets from [-0.4, 0.4].
    """
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2, 1, 1, 3)))(keys)
    uniform = jnp.tile(uniform, images.shape[-1] // 3)  # a colour's number at each of its channels
    gain = 1.0 + strength * (0.7 * uniform[:, 0] - 0.5)
    offset = strength * (0.8 * uniform[:, 1] - 0.4)
    return jnp.clip(gain * images + offset, -1.0, 1.0)


def augment(images: Array, masks: Array, keys: Array) -> tuple[Array, Array]:
    """DiffAugment (Zhao et al., 2020) for what D sees: colour, and shifts by up to an eighth.

    Differentiable in the pictures. Real pictures and completions of one example, given the same
    key, change alike.

    Args:
      images: patches in [-1, 1].
      masks: patches, 1 = hole.
      keys: `jax.random.key` array [B].
    """
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (5,)))(keys)
    brightness, saturation, contrast = (uniform[:, i, None, None, None] for i in range(3))
    pixels = images + (brightness - 0.5)
    grey = _grey(pixels)
    pixels = grey + 2.0 * saturation * (pixels - grey)
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    pixels = mean + (0.5 + contrast) * (pixels - mean)
    both = _shift(jnp.concatenate([pixels, masks], axis=-1), uniform[:, 3], uniform[:, 4])
    return both[..., : images.shape[-1]], both[..., images.shape[-1] :]


def _grey(images: Array) -> Array:
    """Each pixel's mean over its colours, at all three of them.

    By a product: an array with three channels would fill a fortieth of a TPU's registers.
    """
    num_pixels = images.shape[-1] // 3
    means = jnp.kron(jnp.eye(num_pixels), jnp.full((3, 3), 1 / 3))
    return jnp.dot(images, means, precision=jax.lax.Precision.HIGHEST)


def _shift(patches: Array, down: Array, right: Array) -> Array:
    """Moves each of [B, h, w, C] by up to an eighth of its sides; zeros come in from outside.

    `down` and `right`, [B], are uniform in [0, 1). By products with matrices of zeros and ones: a
    slice at each picture's own place would be a gather, which is slow on a TPU.
    """
    exact = jax.lax.Precision.HIGHEST
    rows, columns = (_shifts(n, u) for n, u in zip(patches.shape[1:3], (down, right), strict=True))
    patches = jnp.einsum("bij,bjwc->biwc", rows, patches, precision=exact)
    return jnp.einsum("bij,bhjc->bhic", columns, patches, precision=exact)


def _shifts(positions: int, uniform: Array) -> Array:
    """[B, n, n] of zeros and ones: row i takes position i + offset, if there is one."""
    most = positions // 8
    offset = jnp.floor(uniform * (2 * most + 1)).astype(jnp.int32) - most
    return jax.nn.one_hot(jnp.arange(positions) + offset[:, None], positions)
