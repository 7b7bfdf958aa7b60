"""E1, the manifold projection: a picture to its code in the low-dimensional manifold S_m."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks

Array = jax.Array


class ManifoldProjection(nn.Module):
    """E1 [paper: the module and its task; our choice: the layers].

    No normalisation: a code must keep absolute colours and contrasts.

    Attributes:
      code_dim: size Z of the code.
      widths: channels of each level, from the finest on; each level halves the map.
      remat: compute the blocks again in the backward pass instead of keeping them.
      dtype: compute type; parameters and outputs are float32.
    """

    code_dim: int
    widths: Sequence[int]
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array) -> tuple[Array, Array]:
        """Projects pictures.

        Args:
          image: patches, [B, h, w, p*p*3] float32 in [-1, 1].

        Returns:
          The mean and the log-variance of the code, each [B, Z] float32.
        """
        x = blocks.conv(self.widths[0], dtype=self.dtype)(image.astype(self.dtype))
        block = blocks.rematerialized(blocks.ResidualBlock, self.remat)
        for level, width in enumerate(self.widths):
            if level:
                x = blocks.downsample(x)
            x = block(width, dtype=self.dtype, name=f"level_{level}")(x)
        x = nn.silu(x).reshape(x.shape[0], -1)
        mean_log_variance = nn.Dense(2 * self.code_dim)(x.astype(jnp.float32))
        mean, log_variance = jnp.split(mean_log_variance, 2, axis=-1)
        return mean, log_variance


def sample_code(noise: Array, mean: Array, log_variance: Array) -> Array:
    """The reparameterisation trick: `mean + exp(log_variance / 2) * noise`, all [B, Z]."""
    return mean + jnp.exp(0.5 * log_variance) * noise
