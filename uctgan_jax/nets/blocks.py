"""Building blocks shared by the networks: patches, pooling and residual blocks.

Maps are [B, H, W, C]. The sizes are our choice: the paper does not publish its layers.

The networks take and return patches: pictures whose p x p squares of pixels are folded into
channels, [B, H/p, W/p, p*p*3], and masks likewise. So their widest maps stay small, which is what
makes the models cheap at a given picture size, and no array on a device has so few channels that
a TPU, which works on 128 at a time, would leave most of itself idle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

Array = jax.Array

# Variance-preserving sum of a residual branch and its shortcut.
_RESIDUAL_SCALE = 2**-0.5


def space_to_depth(x: Array, patch_size: int) -> Array:
    """Folds pixels into channels: [B, H, W, C] -> [B, H/p, W/p, p*p*C]."""
    return einops.rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=patch_size, q=patch_size)


def depth_to_space(x: Array, patch_size: int) -> Array:
    """Unfolds channels into pixels: [B, h, w, p*p*C] -> [B, h*p, w*p, C]."""
    return einops.rearrange(x, "b h w (p q c) -> b (h p) (w q) c", p=patch_size, q=patch_size)


def each_color(mask: Array) -> Array:
    """A mask's patches, once for each colour of a pixel: [B, h, w, p*p] -> [B, h, w, p*p*3]."""
    return jnp.repeat(mask, 3, axis=-1)


def downsample(x: Array) -> Array:
    """Halves a map by 2 x 2 averages: [B, H, W, C] -> [B, H/2, W/2, C]."""
    return nn.avg_pool(x, (2, 2), (2, 2))


def upsample(x: Array) -> Array:
    """Doubles a map, nearest neighbour: [B, H, W, C] -> [B, 2H, 2W, C].

    Written as the transpose of `downsample`: the same windows, on a TPU and on a CPU, there and
    back. Repeating rows and columns gives the same numbers.
    """
    batch, height, width, channels = x.shape
    doubled = jax.ShapeDtypeStruct((batch, 2 * height, 2 * width, channels), x.dtype)
    return jax.linear_transpose(downsample, doubled)(4 * x)[0]


def group_norm(dtype: Any) -> nn.GroupNorm:
    """GroupNorm of 8 groups; its statistics are float32 in any `dtype`."""
    return nn.GroupNorm(num_groups=8, use_bias=False, use_scale=False, dtype=dtype)


def conv(features: int, kernel_size: int = 3, **options: Any) -> nn.Conv:
    """A convolution that keeps the size of its map; `options` are those of `nn.Conv`."""
    return nn.Conv(features, (kernel_size, kernel_size), **options)


def convolve_picture_and_mask(x: Array, kernel: Array, *args: Any, **options: Any) -> Array:
    """`jax.lax.conv_general_dilated` of a picture's patches and, after them, its mask's.

    The kernel's input channels come pixel by pixel, three colours and the mask each. Sorting them
    costs next to nothing; sorting those of x, which are as many for every patch, does not.

    Args:
      x: [B, h, w, p*p*3 + p*p].
      kernel: [k, k, p*p*4, features].
      *args, **options: of `jax.lax.conv_general_dilated`.
    """
    pixels = einops.rearrange(kernel, "k l (n c) f -> k l n c f", c=4)
    picture = einops.rearrange(pixels[..., :3, :], "k l n c f -> k l (n c) f")
    kernel = jnp.concatenate([picture, pixels[..., 3, :]], axis=2)
    return jax.lax.conv_general_dilated(x, kernel, *args, **options)


def equal_pixels_init(key: Array, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """A kernel whose output is the same for all pixels of a patch, [k, k, C, pixels * 3].

    So the generator starts without a checkerboard (Aitken et al., 2017), which it would have to
    unlearn.
    """
    kernel = nn.initializers.lecun_normal()(key, (*shape[:-1], 3), dtype)
    return jnp.tile(kernel, shape[-1] // 3)


def rematerialized(block: type[nn.Module], remat: bool) -> type[nn.Module]:
    """`block`, or with `remat` the same block that keeps nothing for its backward pass.

    What it computed is computed again there: memory for time, as 512 px needs it. Name the
    instances: the two kinds would get different names, and with them different checkpoints.
    """
    return nn.remat(block) if remat else block


class ResidualBlock(nn.Module):
    """Pre-activation residual block at one resolution: [B, H, W, C] -> [B, H, W, features].

    Attributes:
      features: channels of the output.
      normalize: whether GroupNorm precedes each activation.
      activation: the nonlinearity before each convolution.
      dtype: compute type; parameters stay float32.
    """

    features: int
    normalize: bool = False
    activation: Callable[[Array], Array] = nn.silu
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, style: Array | None = None) -> Array:
        """Runs the block.

        Args:
          x: the map, [B, H, W, C].
          style: [B, S], or None. When given, each normalisation takes its scale and shift from
            it: this is how the code reaches the generator at every resolution.
        """
        shortcut = x
        if x.shape[-1] != self.features:
            shortcut = conv(self.features, 1, dtype=self.dtype, use_bias=False)(x)
        for _ in range(2):
            if self.normalize:
                x = group_norm(self.dtype)(x)
                if style is None:
                    x = ChannelAffine(dtype=self.dtype)(x)
                else:
                    x = FiLM(dtype=self.dtype)(x, style)
            x = conv(self.features, dtype=self.dtype)(self.activation(x))
        return (shortcut + x) * jnp.asarray(_RESIDUAL_SCALE, x.dtype)


class ChannelAffine(nn.Module):
    """A learned scale and shift a channel, as a normalisation usually carries."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        shift = self.param("shift", nn.initializers.zeros, (x.shape[-1],))
        return x * scale.astype(self.dtype) + shift.astype(self.dtype)


class FiLM(nn.Module):
    """Scale and shift a channel, computed from a style vector (Perez et al., 2018)."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array, style: Array) -> Array:
        """Returns `x * (1 + scale(style)) + shift(style)` for x [B, H, W, C], style [B, S]."""
        scale_shift = nn.Dense(2 * x.shape[-1], dtype=self.dtype)(style)
        scale, shift = jnp.split(scale_shift[:, None, None, :], 2, axis=-1)
        return x * (1 + scale) + shift
