"""Cross semantic attention: the parts being completed look at the known parts."""

from __future__ import annotations

from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array


def known_positions(mask: Array, height: int, width: int) -> Array:
    """Which positions of an [height, width] map see known pixels only.

    Args:
      mask: [B, H, W, pixels], 1 = hole; H and W are multiples of height and width.

    Returns:
      bool [B, height, width]: True where the whole patch under the position is known.
    """
    patches = einops.reduce(
        mask.max(axis=-1),
        "b (h p) (w q) -> b h w",
        "max",
        h=height,
        w=width,
    )
    return patches < 0.5


class CrossSemanticAttention(nn.Module):
    """Cross semantic attention [paper: the layer; our choice: scale, key mask and heads].

        s_ij = Q(F_g)_i . K(F_c)_j / sqrt(d)
        out_i = F_g_i + gamma * sum_j softmax_j(s_ij, j known) V(F_c)_j

    Q, K, V are 1x1 convolutions; gamma is learned and starts at 0, so that the layer starts as
    the identity. A picture without one wholly known position attends to every position instead.

    Attributes:
      num_heads: attention heads; it divides the channels of `generated`.
      dtype: compute type; the softmax is float32 in any case.
    """

    num_heads: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, generated: Array, condition: Array, known: Array) -> Array:
        """Attends.

        Args:
          generated: F_g, the generator's features, [B, H, W, C].
          condition: F_c, the condition's features, [B, H, W, C'].
          known: bool [B, H, W], True where a position may be attended to.

        Returns:
          [B, H, W, C], the type of `generated`.
        """
        channels = generated.shape[-1]

        def heads(name: str, x: Array) -> Array:
            x = nn.Dense(channels, dtype=self.dtype, name=name)(x)
            return einops.rearrange(x, "b h w (n d) -> b (h w) n d", n=self.num_heads)

        attended = masked_attention(
            heads("query", generated),
            heads("key", condition),
            heads("value", condition),
            einops.rearrange(known, "b h w -> b (h w)"),
        )
        gamma = self.param("gamma", nn.initializers.zeros, ())
        return generated + gamma.astype(self.dtype) * attended.reshape(generated.shape)


def masked_attention(query: Array, key: Array, value: Array, known: Array) -> Array:
    """Softmax attention over the known keys only.

    Args:
      query, key, value: [B, N, heads, d].
      known: bool [B, N]; a row that is False throughout counts as True throughout.

    Returns:
      [B, N, heads, d].
    """
    known = known | ~known.any(axis=-1, keepdims=True)
    return jax.nn.dot_product_attention(query, key, value, mask=known[:, None, None, :])
