"""D, the discriminator: is this completion a real picture?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks

Array = jax.Array


def _leaky_relu(x: Array) -> Array:
    """Leaky ReLU with the gain that keeps the variance of noise."""
    return nn.leaky_relu(x, 0.2) * jnp.asarray(2**0.5, x.dtype)


class Discriminator(nn.Module):
    """D [paper: the module; our choice: the layers].

    Plain residual blocks without normalisation: gradient penalties keep it smooth. It sees the mask
    beside the composite, so that it can judge the seam. One discriminator judges both paths [our
    choice; PIC has two].

    With maps of a network that was trained on photographs, a head on each judges too: what looks
    wrong in them is seen long before D has learned to see it in pixels (Sauer et al., 2021).

    Attributes:
      widths: channels of each level, from the finest on; each level halves the map.
      head_width: channels of the heads; 0 for none.
      fold: positions a side that are folded into channels first: coarser patches cost less.
      remat: compute the blocks again in the backward pass instead of keeping them.
      dtype: compute type; parameters and logits are float32.
    """

    widths: Sequence[int]
    head_width: int = 0
    fold: int = 1
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, mask: Array, maps: Sequence[Array] = ()) -> Array:
        """Judges pictures.

        Args:
          image: patches, [B, h, w, p*p*3] float32 in [-1, 1], a composite or a real picture.
          mask: patches, [B, h, w, p*p] float32, 1 = hole.
          maps: of the picture, [B, h', w', C] each.

        Returns:
          Logits [B, 1 + len(maps)] float32, higher for more real: of the pixels, and of each map.
        """
        image, mask = (blocks.space_to_depth(x, self.fold) for x in (image, mask))
        x = blocks.conv(
            self.widths[0],
            dtype=self.dtype,
            conv_general_dilated=blocks.convolve_picture_and_mask,
        )(jnp.concatenate([image, mask], axis=-1).astype(self.dtype))
        block = blocks.rematerialized(blocks.ResidualBlock, self.remat)
        for level, width in enumerate(self.widths):
            if level:
                x = blocks.downsample(x)
            x = block(width, activation=_leaky_relu, dtype=self.dtype, name=f"level_{level}")(x)
        logits = [_logit(x)]
        for number, features in enumerate(maps):
            logits.append(Head(self.head_width, self.dtype, name=f"head_{number}")(features))
        return jnp.concatenate(logits, axis=-1)


class Head(nn.Module):
    """A part of D that judges one map: [B, h, w, C] -> logits [B, 1].

    Attributes:
      width: channels.
      dtype: compute type; parameters and logits are float32.
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = blocks.conv(self.width, 1, dtype=self.dtype)(x.astype(self.dtype))
        while x.shape[1] > 8:
            x = blocks.downsample(blocks.conv(self.width, dtype=self.dtype)(_leaky_relu(x)))
        return _logit(blocks.conv(self.width, dtype=self.dtype)(_leaky_relu(x)))


def _logit(x: Array) -> Array:
    """The linear layer at the end, in float32: [B, h, w, C] -> [B, 1]."""
    x = _leaky_relu(x).reshape(x.shape[0], -1)
    return nn.Dense(1)(x.astype(jnp.float32))
