"""D, the discriminator: is this completion a real picture?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks

Array = jax.Array

# Spectral norms bound how far apart the logits of two pictures can be, and good completions are
# near the real picture: without a gain the hinge's margins would be out of reach.
_LOGIT_GAIN = 16.0


class SpectralConv(nn.Module):
    """A convolution that keeps the size of its map, with spectral normalisation.

    The kernel, seen as a [k*k*C_in, C_out] matrix, is divided by its largest singular value
    (Miyato et al., 2018). The vectors of the power iteration live in the `spectral_norm`
    collection and advance one iteration a call with `update_stats`.
    """

    features: int
    kernel_size: int = 3
    use_bias: bool = True
    update_stats: bool = False
    dtype: Any = jnp.float32
    conv_general_dilated: Callable[..., Array] = jax.lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = blocks.conv(
            self.features,
            self.kernel_size,
            dtype=self.dtype,
            use_bias=self.use_bias,
            conv_general_dilated=self.conv_general_dilated,
        )
        return nn.SpectralNorm(conv, collection_name="spectral_norm")(
            x, update_stats=self.update_stats
        )


class DiscriminatorBlock(nn.Module):
    """Pre-activation residual block of D: [B, H, W, C] -> [B, H, W, features].

    Spectral normalisation bounds every kernel's gain by 1, so what the other blocks do to keep
    the variance (the scaled sum, a smooth activation) would shrink the signal here, layer by
    layer, until logits could not tell anything apart: a plain sum and an activation of gain 1 for
    noise keep it alive.
    """

    features: int
    update_stats: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = functools.partial(SpectralConv, update_stats=self.update_stats, dtype=self.dtype)
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = conv(self.features, kernel_size=1, use_bias=False)(x)
        for _ in range(2):
            x = conv(self.features)(_activation(x))
        return shortcut + x


def _activation(x: Array) -> Array:
    return nn.leaky_relu(x, 0.2) * jnp.asarray(2**0.5, x.dtype)


class Discriminator(nn.Module):
    """D, with spectral normalisation throughout [paper: the module; our choice: the layers].

    It sees the mask beside the composite, so that it can judge the seam, and gives one logit a
    position of its coarsest map. One discriminator judges both paths [our choice; PIC has two].

    Attributes:
      widths: channels of each level, from the finest on; each level halves the map.
      remat: compute the blocks again in the backward pass instead of keeping them.
      dtype: compute type; parameters and logits are float32.
    """

    widths: Sequence[int]
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: Array, mask: Array, *, update_stats: bool = False) -> Array:
        """Judges pictures.

        Args:
          image: patches, [B, h, w, p*p*3] float32 in [-1, 1], a composite or a real picture.
          mask: patches, [B, h, w, p*p] float32, 1 = hole.
          update_stats: advances the power iteration in the `spectral_norm` collection, which
            must then be mutable.

        Returns:
          Logits [B, h', w'] float32, positive for real.
        """
        options = dict(update_stats=update_stats, dtype=self.dtype)
        block = blocks.rematerialized(DiscriminatorBlock, self.remat)
        x = SpectralConv(
            self.widths[0],
            conv_general_dilated=blocks.convolve_picture_and_mask,
            **options,
        )(jnp.concatenate([image, mask], axis=-1).astype(self.dtype))
        for level, width in enumerate(self.widths):
            if level:
                x = 2 * blocks.downsample(x)  # Twice the mean keeps the variance of noise.
            x = block(width, name=f"level_{level}", **options)(x)
        logits = SpectralConv(1, **options)(_activation(x))
        return _LOGIT_GAIN * logits[..., 0].astype(jnp.float32)
