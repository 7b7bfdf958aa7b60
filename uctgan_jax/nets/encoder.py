"""E2, the conditional encoder: the masked picture to multi-scale features, the condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks

Array = jax.Array


class ConditionalEncoder(nn.Module):
    """E2 [paper: the module and its task; our choice: the layers].

    Attributes:
      widths: channels of each level, from the finest on; each level halves the map.
      patch_size: pixels folded into channels before the first level.
      remat: compute the blocks again in the backward pass instead of keeping them.
      dtype: compute type; parameters stay float32.
    """

    widths: Sequence[int]
    patch_size: int
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, mask: Array) -> tuple[Array, ...]:
        """Encodes masked pictures. What `image` holds inside the hole is never seen.

        Args:
          image: [B, H, W, 3] float32 in [-1, 1].
          mask: [B, H, W, 1] float32, 1 = hole.

        Returns:
          One map a level, from the finest to the coarsest:
          [B, H/p/2**level, W/p/2**level, widths[level]] in the compute type.
        """
        x = jnp.concatenate([jnp.where(mask > 0.5, 0.0, image), mask], axis=-1)
        x = blocks.space_to_depth(x.astype(self.dtype), self.patch_size)
        x = blocks.conv(self.widths[0], dtype=self.dtype)(x)
        block = blocks.rematerialized(blocks.ResidualBlock, self.remat)
        features = []
        for level, width in enumerate(self.widths):
            if level:
                x = blocks.downsample(x)
            x = block(width, normalize=True, dtype=self.dtype, name=f"level_{level}")(x)
            features.append(x)
        return tuple(features)
