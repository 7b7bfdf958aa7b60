"""D, the discriminator: is this completion a real picture?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks

Array = jax.Array


class Discriminator(nn.Module):
    """D, with spectral normalisation throughout [paper: the module; our choice: the layers].

    It sees the mask beside the composite, so that it can judge the seam, and gives one logit a
    position of its coarsest map. One discriminator judges both paths [our choice; PIC has two].

    Attributes:
      widths: channels of each level, from the finest on; each level halves the map.
      patch_size: pixels folded into channels before the first level.
      dtype: compute type; parameters and logits are float32.
    """

    widths: Sequence[int]
    patch_size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, mask: Array, *, update_stats: bool = False) -> Array:
        """Judges pictures.

        Args:
          image: [B, H, W, 3] float32 in [-1, 1], a composite or a real picture.
          mask: [B, H, W, 1] float32, 1 = hole.
          update_stats: advances the power iteration in the `spectral_norm` collection, which
            must then be mutable.

        Returns:
          Logits [B, h, w] float32, positive for real.
        """
        x = jnp.concatenate([image, mask], axis=-1).astype(self.dtype)
        x = blocks.space_to_depth(x, self.patch_size)
        x = blocks.Conv(self.widths[0], spectral_norm=True, dtype=self.dtype)(
            x, update_stats=update_stats
        )
        for level, width in enumerate(self.widths):
            if level:
                x = blocks.downsample(x)
            x = blocks.ResidualBlock(width, spectral_norm=True, dtype=self.dtype)(
                x, update_stats=update_stats
            )
        logits = blocks.Conv(1, spectral_norm=True, dtype=self.dtype)(
            nn.silu(x), update_stats=update_stats
        )
        return logits[..., 0].astype(jnp.float32)
