"""From stored pictures to what the networks see and back, for training and inference alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def normalize(images: Array) -> Array:
    """uint8 [0, 255] to float32 [-1, 1], of any shape."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def denormalize(images: Array) -> Array:
    """float32 [-1, 1] to the nearest uint8 [0, 255], of any shape."""
    return jnp.round((images + 1.0) * 127.5).astype(jnp.uint8)


def composite(output: Array, target: Array, mask: Array) -> Array:
    """The generator's pixels in the hole, the picture's own, bit for bit, elsewhere.

    Args:
      output, target: pictures of one type, [..., C].
      mask: broadcasts to them; above 0.5 in the hole.
    """
    return jnp.where(mask > 0.5, output, target)
