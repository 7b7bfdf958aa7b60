"""G, the generator: a code and a condition to a completed picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import attention, blocks

Array = jax.Array


class Generator(nn.Module):
    """G [paper: the module and its task; our choice: the layers].

    The code enters at the coarsest map, as a map of its own, and again in every residual block,
    whose normalisations take scale and shift from it: a code that entered once could be ignored.

    Attributes:
      widths: channels of each level, from the finest on, one for each map of the condition.
      patch_size: pixels a position of the finest level stands for.
      num_blocks: residual blocks a level.
      attention_resolution: side of the square map with cross semantic attention; 0 for none.
      attention_heads: heads of that attention.
      remat: compute the blocks again in the backward pass instead of keeping them.
      dtype: compute type; parameters and the output are float32.
    """

    widths: Sequence[int]
    patch_size: int
    num_blocks: int = 1
    attention_resolution: int = 0
    attention_heads: int = 1
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, code: Array, condition: Sequence[Array], mask: Array) -> Array:
        """Completes pictures.

        Args:
          code: z, [B, Z] float32.
          condition: the maps of `ConditionalEncoder`, from the finest to the coarsest.
          mask: patches, [B, h, w, p*p] float32, 1 = hole: tells attention which positions are
            known.

        Returns:
          Patches, [B, h, w, p*p*3] float32 in [-1, 1]: the whole picture, known pixels redrawn.

        Raises:
          ValueError: if `condition` has not one map for each of `widths`.
        """
        if len(condition) != len(self.widths):
            raise ValueError(
                f"the condition has {len(condition)} maps; {len(self.widths)} widths"
                f" ({tuple(self.widths)}) need one each"
            )

        style = code.astype(self.dtype)
        for _ in range(2):
            style = nn.silu(nn.Dense(max(self.widths), dtype=self.dtype)(style))

        _, height, width, _ = condition[-1].shape
        x = nn.Dense(height * width * self.widths[-1], dtype=self.dtype)(style)
        x = x.reshape(-1, height, width, self.widths[-1])
        block = blocks.rematerialized(blocks.ResidualBlock, self.remat)
        for level in reversed(range(len(self.widths))):
            features = condition[level]
            if x.shape[1] != features.shape[1]:
                # Channels first, pixels second: a quarter of the cost.
                x = blocks.upsample(blocks.conv(self.widths[level], 1, dtype=self.dtype)(x))
            x = x + blocks.conv(self.widths[level], 1, dtype=self.dtype)(features)
            for number in range(self.num_blocks):
                x = block(
                    self.widths[level],
                    normalize=True,
                    dtype=self.dtype,
                    name=f"level_{level}_block_{number}",
                )(x, style=style)
            if features.shape[1] == self.attention_resolution:
                known = attention.known_positions(mask, *features.shape[1:3])
                x = attention.CrossSemanticAttention(self.attention_heads, dtype=self.dtype)(
                    x, features, known
                )
        x = nn.silu(blocks.FiLM(dtype=self.dtype)(blocks.group_norm(self.dtype)(x), style))
        x = blocks.conv(
            3 * self.patch_size**2, dtype=self.dtype, kernel_init=blocks.equal_pixels_init
        )(x)
        return jnp.tanh(x.astype(jnp.float32))
