"""E1, E2, G and D together: how they are built from plain numbers and called with parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from uctgan_jax.evaluation.metrics.lpips import feature_maps
from uctgan_jax.nets import blocks
from uctgan_jax.nets.discriminator import Discriminator
from uctgan_jax.nets.encoder import ConditionalEncoder
from uctgan_jax.nets.generator import Generator
from uctgan_jax.nets.projection import ManifoldProjection

Array = jax.Array
PyTree = Any

MIN_IMAGE_SIZE = 32
MAX_IMAGE_SIZE = 512


@dataclasses.dataclass(frozen=True)
class Networks:
    """The four networks, and the sizes of what they exchange.

    Pictures and masks go in and out as patches; `to_patches` and `to_pictures` convert. `params` is
    `{"projection": E1, "encoder": E2, "generator": G}`; D has parameters of its own.
    """

    projection: ManifoldProjection
    encoder: ConditionalEncoder
    generator: Generator
    discriminator: Discriminator
    image_size: int
    patch_size: int

    @property
    def code_dim(self) -> int:
        """Size Z of the code."""
        return self.projection.code_dim

    def to_patches(self, pictures: Array) -> Array:
        """Pictures or masks, [B, H, W, C], as the networks take them: [B, H/p, W/p, p*p*C]."""
        return blocks.space_to_depth(pictures, self.patch_size)

    def to_pictures(self, patches: Array) -> Array:
        """The pictures whose patches these are: [B, h, w, p*p*C] -> [B, h*p, w*p, C]."""
        return blocks.depth_to_space(patches, self.patch_size)

    def project(self, params: Mapping[str, PyTree], image: Array) -> tuple[Array, Array]:
        """E1: the mean and log-variance of each picture's code, [B, Z] each."""
        return self.projection.apply({"params": params["projection"]}, image)

    def encode(self, params: Mapping[str, PyTree], image: Array, mask: Array) -> tuple[Array, ...]:
        """E2: the condition, one map a level; what `image` holds in the hole is not looked at."""
        return self.encoder.apply({"params": params["encoder"]}, image, mask)

    def generate(
        self, params: Mapping[str, PyTree], code: Array, condition: Sequence[Array], mask: Array
    ) -> Array:
        """G: whole pictures, as patches, from codes [B, Z] and the condition."""
        return self.generator.apply({"params": params["generator"]}, code, condition, mask)

    def discriminate(
        self, discriminator_params: PyTree, image: Array, mask: Array, maps: Sequence[Array] = ()
    ) -> Array:
        """D: [B, 1 + len(maps)] logits, higher for more real: of the pixels, and of each map."""
        return self.discriminator.apply({"params": discriminator_params}, image, mask, maps)

    def features(self, image: Array) -> list[Array]:
        """What D's heads and the perceptual term see of pictures: AlexNet's maps [B, h, w, C]."""
        return feature_maps(image, patch_size=self.patch_size)

    def judged(self, maps: Sequence[Array]) -> list[Array]:
        """Those of `features` that D has heads for, with numbers of about 1, as its penalties want.

        The first is so near to pixels that the head would repeat what D does with these.
        """
        if not maps or not self.discriminator.head_width:
            return []
        return [m * m.shape[-1] ** 0.5 for m in maps[1:]]

    def init_generator(self, key: jax.Array) -> dict[str, PyTree]:
        """Fresh float32 parameters of E1, E2 and G: `{"projection", "encoder", "generator"}`."""
        image, mask = self.example()
        keys = jax.random.split(key, 3)
        encoder = self.encoder.init(keys[1], image, mask)
        condition = self.encoder.apply(encoder, image, mask)
        code = jnp.zeros((1, self.code_dim))
        return {
            "projection": self.projection.init(keys[0], image)["params"],
            "encoder": encoder["params"],
            "generator": self.generator.init(keys[2], code, condition, mask)["params"],
        }

    def init_discriminator(self, key: jax.Array) -> PyTree:
        """Fresh float32 parameters of D."""
        image, mask = self.example()
        maps = jax.eval_shape(lambda image: self.judged(self.features(image)), image)
        maps = [jnp.zeros(m.shape) for m in maps]
        return self.discriminator.init(key, image, mask, maps)["params"]

    def example(self) -> tuple[Array, Array]:
        """A picture and a mask of zeros, as patches, [1, h, w, ...]: to shape parameters by."""
        shape = (1, self.image_size, self.image_size)
        return (
            self.to_patches(jnp.zeros((*shape, 3))),
            self.to_patches(jnp.zeros((*shape, 1))),
        )


def build_networks(
    *,
    image_size: int,
    patch_size: int,
    code_dim: int,
    projection_widths: Sequence[int],
    encoder_widths: Sequence[int],
    generator_widths: Sequence[int],
    discriminator_widths: Sequence[int],
    discriminator_patch_size: int,
    discriminator_head_width: int = 0,
    generator_blocks: int = 1,
    attention_resolution: int = 0,
    attention_heads: int = 1,
    compute_dtype: str = "float32",
    remat: bool = False,
) -> Networks:
    """Builds the networks from plain numbers (a config's `model` section).

    Args:
      image_size: side of the square pictures, a power of two from 32 to 512.
      patch_size: side of the patches folded into channels, a power of two.
      code_dim: size Z of the code.
      projection_widths, encoder_widths, generator_widths, discriminator_widths: channels of each
        level of E1, E2, G and D, from the finest on; E2 and G have the same number of levels.
      discriminator_patch_size: side of the patches that D sees, `patch_size` times a power of two.
      discriminator_head_width: channels of D's heads on AlexNet's maps; 0 for none.
      generator_blocks: residual blocks a level of G.
      attention_resolution: side of the map with cross semantic attention; 0 for none.
      attention_heads: heads of the attention.
      compute_dtype: "float32" or "bfloat16"; parameters, norms, softmax and losses stay float32.
      remat: trade time for memory in training, see `blocks.rematerialized`.

    Raises:
      ValueError: if a size breaks one of these rules.
    """
    widths = {
        "projection_widths": tuple(projection_widths),
        "encoder_widths": tuple(encoder_widths),
        "generator_widths": tuple(generator_widths),
        "discriminator_widths": tuple(discriminator_widths),
    }
    _check_sides(image_size, patch_size, discriminator_patch_size)
    for name, count in {"code_dim": code_dim, "generator_blocks": generator_blocks}.items():
        if count < 1:
            raise ValueError(f"{name} ({count}) must be 1 or more")
    if discriminator_head_width < 0:
        raise ValueError(f"discriminator_head_width ({discriminator_head_width}) must be 0 or more")
    for name, values in widths.items():
        patch = discriminator_patch_size if name == "discriminator_widths" else patch_size
        _check_widths(name, values, positions=image_size // patch)
    if len(encoder_widths) != len(generator_widths):
        raise ValueError(
            f"encoder_widths ({widths['encoder_widths']}) and generator_widths"
            f" ({widths['generator_widths']}) must have the same number of levels"
        )
    _check_attention(
        attention_resolution,
        attention_heads,
        widths["generator_widths"],
        positions=image_size // patch_size,
    )
    if compute_dtype not in ("float32", "bfloat16"):
        raise ValueError(f"compute_dtype ({compute_dtype!r}) must be 'float32' or 'bfloat16'")
    options = dict(remat=remat, dtype=jnp.dtype(compute_dtype))
    return Networks(
        projection=ManifoldProjection(
            code_dim=code_dim, widths=widths["projection_widths"], **options
        ),
        encoder=ConditionalEncoder(widths=widths["encoder_widths"], **options),
        generator=Generator(
            widths=widths["generator_widths"],
            patch_size=patch_size,
            num_blocks=generator_blocks,
            attention_resolution=attention_resolution,
            attention_heads=attention_heads,
            **options,
        ),
        discriminator=Discriminator(
            widths=widths["discriminator_widths"],
            head_width=discriminator_head_width,
            fold=discriminator_patch_size // patch_size,
            **options,
        ),
        image_size=image_size,
        patch_size=patch_size,
    )


def _is_power_of_two(number: int) -> bool:
    return number >= 1 and not number & (number - 1)


def _check_sides(image_size: int, patch_size: int, discriminator_patch_size: int) -> None:
    if not (_is_power_of_two(image_size) and MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE):
        raise ValueError(
            f"image_size ({image_size}) must be a power of two from {MIN_IMAGE_SIZE} to"
            f" {MAX_IMAGE_SIZE}"
        )
    if not _is_power_of_two(patch_size):
        raise ValueError(f"patch_size ({patch_size}) must be a power of two")
    if not _is_power_of_two(discriminator_patch_size) or discriminator_patch_size < patch_size:
        raise ValueError(
            f"discriminator_patch_size ({discriminator_patch_size}) must be patch_size"
            f" ({patch_size}) times a power of two"
        )


def _check_widths(name: str, widths: Sequence[int], positions: int) -> None:
    """Checks the channels of a network's levels; its finest map has `positions` a side."""
    if any(width < 1 for width in widths):
        raise ValueError(f"{name} ({widths}) must each be 1 or more")
    if not widths or positions // 2 ** (len(widths) - 1) < 2:
        raise ValueError(
            f"{name} ({widths}) must have 1 level or more, and few enough to leave a map of"
            f" 2 x 2 or more from {positions} positions a side"
        )
    if name in ("encoder_widths", "generator_widths") and any(width % 8 for width in widths):
        raise ValueError(f"{name} ({widths}) must be multiples of 8, for GroupNorm")


def _check_attention(resolution: int, heads: int, widths: Sequence[int], positions: int) -> None:
    if not resolution:
        return
    sides = [positions >> level for level in range(len(widths))]
    if resolution not in sides:
        raise ValueError(
            f"attention_resolution ({resolution}) must be 0 or one of the sides of the generator's"
            f" maps, {sides}"
        )
    width = widths[sides.index(resolution)]
    if heads < 1 or width % heads:
        raise ValueError(
            f"attention_heads ({heads}) must divide the width ({width}) of the generator's map it"
            " works on"
        )
