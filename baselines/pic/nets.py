"""The networks of PIC: a shared encoder, two inference networks, a generator, two discriminators.

Pictures and masks go in and out as patches, see `uctgan_jax.nets.blocks`. The encoder and the
discriminators are those of UCTGAN.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks
from uctgan_jax.nets.attention import known_positions
from uctgan_jax.nets.discriminator import Discriminator
from uctgan_jax.nets.encoder import ConditionalEncoder

Array = jax.Array
PyTree = Any
Normal = tuple[Array, Array]  # mean and log-variance of a code, [B, h, w, C] float32 each

PATHS = ("reconstructive", "generative")  # each has a discriminator of its own


class Inference(nn.Module):
    """The distribution of a code, from the features of what is seen.

    Attributes:
      code_channels: channels of the code.
      num_blocks: residual blocks.
      dtype: compute type; parameters and outputs are float32.
    """

    code_channels: int
    num_blocks: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Array) -> Normal:
        """Infers; `features` is the encoder's coarsest map, [B, h, w, C]."""
        x = features
        for _ in range(self.num_blocks):
            x = blocks.ResidualBlock(x.shape[-1], normalize=True, dtype=self.dtype)(x)
        x = blocks.conv(2 * self.code_channels, 1)(nn.silu(x).astype(jnp.float32))
        mean, log_variance = jnp.split(x, 2, axis=-1)
        return mean, log_variance


class ShortLongAttention(nn.Module):
    """Short and long term attention [paper: the layer; our choice: scale and size of queries].

        s_ij = Q(F_d)_i . Q(F_d)_j / sqrt(d),  w_ij = softmax_j(s_ij)
        short_i = F_d_i + gamma * sum_j w_ij F_d_j
        long_i = F_e_i where i is visible, else delta * sum_j w_ij F_e_j

    F_d are the decoder's features and F_e the encoder's. gamma and delta are learned from 0 on.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, decoded: Array, encoded: Array, known: Array) -> Array:
        """Attends.

        Args:
          decoded: F_d, [B, h, w, C].
          encoded: F_e, [B, h, w, C'].
          known: bool [B, h, w], True where a position is visible.

        Returns:
          Short and long, [B, h, w, C + C'].
        """
        batch, height, width, channels = decoded.shape
        query = nn.Dense(max(1, channels // 4), dtype=self.dtype)(decoded)
        query = query.reshape(batch, height * width, -1)
        scores = jnp.einsum("bid,bjd->bij", query, query).astype(jnp.float32)
        weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5).astype(self.dtype)

        def gather(name: str, x: Array) -> Array:
            gain = self.param(name, nn.initializers.zeros, ())
            gathered = jnp.einsum("bij,bjc->bic", weights, x.reshape(batch, height * width, -1))
            return gain.astype(self.dtype) * gathered.reshape(x.shape)

        short = decoded + gather("gamma", decoded)
        long = jnp.where(known[..., None], encoded, gather("delta", encoded))
        return jnp.concatenate([short, long], axis=-1)


class Generator(nn.Module):
    """A code and the features of the visible part to a whole picture [our choice: the layers].

    Visible features enter at the coarsest map, where the code is added to them, and through the
    attention [paper].

    Attributes:
      widths: channels of each level, from the finest on.
      patch_size: pixels a position of the finest level stands for.
      attention_resolution: side of the square map with attention; 0 for none.
      remat: compute the blocks again in the backward pass instead of keeping them.
      dtype: compute type; parameters and the output are float32.
    """

    widths: Sequence[int]
    patch_size: int
    attention_resolution: int
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, code: Array, features: Sequence[Array], mask: Array) -> Array:
        """Generates.

        Args:
          code: z, [B, h, w, C] float32, of the coarsest map's size.
          features: the encoder's maps of I_m, from the finest to the coarsest.
          mask: patches, [B, H, W, p*p] float32, 1 = hole.

        Returns:
          Patches, [B, H, W, p*p*3] float32 in [-1, 1]: the whole picture, visible pixels redrawn.
        """
        x = blocks.conv(self.widths[-1], dtype=self.dtype)(code.astype(self.dtype))
        x = x + blocks.conv(self.widths[-1], 1, dtype=self.dtype)(features[-1])
        block = blocks.rematerialized(blocks.ResidualBlock, self.remat)
        for level in reversed(range(len(self.widths))):
            width, size = self.widths[level], features[level].shape[1]
            if x.shape[1] != size:
                x = blocks.upsample(blocks.conv(width, 1, dtype=self.dtype)(x))
            x = block(width, normalize=True, dtype=self.dtype, name=f"level_{level}")(x)
            if size == self.attention_resolution:
                known = known_positions(mask, *x.shape[1:3])
                x = ShortLongAttention(dtype=self.dtype)(x, features[level], known)
        x = blocks.ChannelAffine(dtype=self.dtype)(blocks.group_norm(self.dtype)(x))
        x = blocks.conv(
            3 * self.patch_size**2, dtype=self.dtype, kernel_init=blocks.equal_pixels_init
        )(nn.silu(x))
        return jnp.tanh(x.astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks, and the sizes of what they exchange.

    `params` is `{"encoder", "posterior", "prior", "generator"}`; of the discriminators those of
    both `PATHS`.
    """

    encoder: ConditionalEncoder
    posterior: Inference
    prior: Inference
    generator: Generator
    discriminator: Discriminator
    image_size: int

    @property
    def code_shape(self) -> tuple[int, int, int]:
        """Of one code: [h, w, C]."""
        side = self.image_size // self.generator.patch_size >> len(self.encoder.widths) - 1
        return side, side, self.prior.code_channels

    def to_patches(self, pictures: Array) -> Array:
        """Pictures or masks, [B, H, W, C], as the networks take them: [B, H/p, W/p, p*p*C]."""
        return blocks.space_to_depth(pictures, self.generator.patch_size)

    def to_pictures(self, patches: Array) -> Array:
        """The pictures whose patches these are: [B, h, w, p*p*C] -> [B, h*p, w*p, C]."""
        return blocks.depth_to_space(patches, self.generator.patch_size)

    def encode(self, params: Mapping[str, PyTree], image: Array, mask: Array) -> tuple[Array, ...]:
        """Features of the visible part I_m, from the finest to the coarsest map."""
        return self.encoder.apply({"params": params["encoder"]}, image, mask)

    def infer_posterior(self, params: Mapping[str, PyTree], image: Array, mask: Array) -> Normal:
        """q(z | I_c): the hidden part goes through the same encoder."""
        features = self.encode(params, image, 1.0 - mask)
        return self.posterior.apply({"params": params["posterior"]}, features[-1])

    def infer_prior(self, params: Mapping[str, PyTree], features: Sequence[Array]) -> Normal:
        """p(z | I_m), from `encode`'s features."""
        return self.prior.apply({"params": params["prior"]}, features[-1])

    def generate(
        self, params: Mapping[str, PyTree], code: Array, features: Sequence[Array], mask: Array
    ) -> Array:
        """Whole pictures, as patches, from codes [B, h, w, C] and `encode`'s features."""
        return self.generator.apply({"params": params["generator"]}, code, features, mask)

    def discriminate(self, params: PyTree, image: Array, mask: Array) -> tuple[Array, Array]:
        """One path's discriminator: scores [B], and its last map of features [B, h, w, C]."""
        last = f"level_{len(self.discriminator.widths) - 1}"
        scores, variables = self.discriminator.apply(
            {"params": params},
            image,
            mask,
            capture_intermediates=lambda module, _: module.name == last,
            mutable=["intermediates"],
        )
        (features,) = variables["intermediates"][last]["__call__"]
        return scores, features.astype(jnp.float32)

    def init_generator(self, key: Array) -> dict[str, PyTree]:
        """Fresh float32 parameters of all but the discriminators."""
        image, mask = self._example()
        keys = jax.random.split(key, 4)
        encoder = self.encoder.init(keys[0], image, mask)
        features = self.encoder.apply(encoder, image, mask)
        code = jnp.zeros((1, *self.code_shape))
        return {
            "encoder": encoder["params"],
            "posterior": self.posterior.init(keys[1], features[-1])["params"],
            "prior": self.prior.init(keys[2], features[-1])["params"],
            "generator": self.generator.init(keys[3], code, features, mask)["params"],
        }

    def init_discriminator(self, key: Array) -> dict[str, PyTree]:
        """Fresh float32 parameters of both discriminators."""
        keys = jax.random.split(key, len(PATHS))
        return {
            path: self.discriminator.init(key, *self._example())["params"]
            for path, key in zip(PATHS, keys, strict=True)
        }

    def _example(self) -> tuple[Array, Array]:
        shape = (1, self.image_size, self.image_size)
        return self.to_patches(jnp.zeros((*shape, 3))), self.to_patches(jnp.zeros((*shape, 1)))


def build_networks(
    *,
    image_size: int,
    patch_size: int,
    code_channels: int,
    encoder_widths: Sequence[int],
    posterior_blocks: int,
    prior_blocks: int,
    generator_widths: Sequence[int],
    attention_resolution: int,
    discriminator_widths: Sequence[int],
    discriminator_patch_size: int,
    compute_dtype: str = "float32",
    remat: bool = False,
) -> Networks:
    """Builds the networks from plain numbers: see `config.py`, and UCTGAN's `build_networks`.

    Raises:
      ValueError: if encoder and generator have not the same number of levels, or none of their
        maps has the side of the attention.
    """
    if len(encoder_widths) != len(generator_widths):
        raise ValueError(
            f"encoder_widths ({tuple(encoder_widths)}) and generator_widths"
            f" ({tuple(generator_widths)}) must have the same number of levels"
        )
    sides = [image_size // patch_size >> level for level in range(len(generator_widths))]
    if attention_resolution not in (0, *sides):
        raise ValueError(
            f"attention_resolution ({attention_resolution}) must be 0 or one of the sides of the"
            f" generator's maps, {sides}"
        )
    dtype = jnp.dtype(compute_dtype)
    options = dict(remat=remat, dtype=dtype)
    return Networks(
        encoder=ConditionalEncoder(widths=tuple(encoder_widths), **options),
        posterior=Inference(code_channels, posterior_blocks, dtype=dtype),
        prior=Inference(code_channels, prior_blocks, dtype=dtype),
        generator=Generator(
            widths=tuple(generator_widths),
            patch_size=patch_size,
            attention_resolution=attention_resolution,
            **options,
        ),
        discriminator=Discriminator(
            widths=tuple(discriminator_widths),
            fold=discriminator_patch_size // patch_size,
            **options,
        ),
        image_size=image_size,
    )
