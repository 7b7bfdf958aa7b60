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
      remat: compute the blocks again in the backward pass instead of keeping them.
      dtype: compute type; parameters stay float32.
    """

    widths: Sequence[int]
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, mask: Array) -> tuple[Array, ...]:
        """Encodes masked pictures. What `image` holds inside the hole is never seen.

        Args:
          image: patches, [B, h, w, p*p*3] float32 in [-1, 1].
          mask: patches, [B, h, w, p*p] float32, 1 = hole.

        Returns:
          One map a level, from the finest to the coarsest:
          [B, h/2**level, w/2**level, widths[level]] in the compute type.
        """
        image = jnp.where(blocks.each_color(mask) > 0.5, 0.0, image)
        x = blocks.conv(
            self.widths[0],
            dtype=self.dtype,
            conv_general_dilated=blocks.convolve_picture_and_mask,
        )(jnp.concatenate([image, mask], axis=-1).astype(self.dtype))
        block = blocks.rematerialized(blocks.ResidualBlock, self.remat)
        features = []
        for level, width in enumerate(self.widths):
            if level:
                x = blocks.downsample(x)
            x = block(width, normalize=True, dtype=self.dtype, name=f"level_{level}")(x)
            features.append(x)
        return tuple(features)
