"""The networks of UCTGAN as pure Linen modules of plain fields, and all of them together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks
from uctgan_jax.nets.attention import CrossSemanticAttention
from uctgan_jax.nets.discriminator import Discriminator
from uctgan_jax.nets.encoder import ConditionalEncoder
from uctgan_jax.nets.generator import Generator
from uctgan_jax.nets.projection import ManifoldProjection, sample_code
from uctgan_jax.prior.flow import ConditionalPrior, Velocity, guided, transport

__all__ = [
    "ConditionalEncoder",
    "ConditionalPrior",
    "CrossSemanticAttention",
    "Discriminator",
    "Generator",
    "ManifoldProjection",
    "Networks",
    "build_networks",
    "sample_code",
]

Array = jax.Array

MIN_IMAGE_SIZE = 32
MAX_IMAGE_SIZE = 512
# Of priors from before configs told their `prior_condition_width`.
NARROW_CONDITION = 256


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks and the sizes of what they exchange.

    `guidance` is how far codes are carried past where the guide, the prior as it was before it
    learned alone, would carry them: 1 is the prior alone.

    Pictures and masks go in and out as patches: `to_patches` and `to_pictures` are the way there
    and back.
    """

    projection: ManifoldProjection
    encoder: ConditionalEncoder
    prior: ConditionalPrior
    generator: Generator
    discriminator: Discriminator
    image_size: int
    patch_size: int
    guidance: float = 1.0

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

    def to_manifold(
        self, params: Mapping[str, Any], codes: Array, condition: Sequence[Array]
    ) -> Array:
        """The codes of the manifold that standard-normal ones stand for, given the condition.

        Guided, if `params` have a "guide".

        Args:
          params: of the generator side.
          codes: [B, K, Z].
          condition: the maps of E2, [B, ...].

        Returns:
          [B, K, Z].
        """
        velocity = self.velocity(params, condition)
        if "guide" in params and self.guidance != 1:
            guide = self.velocity({"prior": params["guide"]}, condition)
            velocity = guided(velocity, guide, self.guidance)
        return transport(velocity, codes, back=False)

    def from_manifold(
        self, params: Mapping[str, Any], codes: Array, condition: Sequence[Array]
    ) -> Array:
        """The standard-normal codes that stand for codes of the manifold.

        Undoes `to_manifold` without guidance. Backwards a guided field leads far out of N(0, I).
        """
        return transport(self.velocity(params, condition), codes, back=True)

    def velocity(self, params: Mapping[str, Any], condition: Sequence[Array]) -> Velocity:
        """The prior's velocity under the condition, of codes [B, K, Z] at times [] or [B, K]."""
        prior = self.prior.bind({"params": params["prior"]})
        embedding = prior.embed(condition)[:, None]
        return lambda codes, time: prior(codes, time, embedding)

    def init_generator(self, key: jax.Array) -> dict[str, Any]:
        """Fresh float32 parameters of what completes pictures: E1, E2, the prior, its guide and G.

        Returns:
          `{"projection", "encoder", "prior", "guide", "generator"}`; the guide is as the prior.
        """
        image, mask = self._example()
        keys = jax.random.split(key, 4)
        encoder = self.encoder.init(keys[1], image, mask)
        condition = self.encoder.apply(encoder, image, mask)
        code = jnp.zeros((1, self.code_dim))
        prior = self.prior.init(keys[3], code, condition, method=_velocity_at_start)["params"]
        return {
            "projection": self.projection.init(keys[0], image)["params"],
            "encoder": encoder["params"],
            "prior": prior,
            "guide": prior,
            "generator": self.generator.init(keys[2], code, condition, mask)["params"],
        }

    def init_discriminator(self, key: jax.Array) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fresh float32 parameters and spectral-norm statistics of D."""
        variables = self.discriminator.init(key, *self._example())
        return variables["params"], variables["spectral_norm"]

    def _example(self) -> tuple[Array, Array]:
        shape = (1, self.image_size, self.image_size)
        return (
            self.to_patches(jnp.zeros((*shape, 3))),
            self.to_patches(jnp.zeros((*shape, 1))),
        )


def _velocity_at_start(prior: ConditionalPrior, code: Array, condition: Sequence[Array]) -> Array:
    return prior(code, jnp.zeros(len(code)), prior.embed(condition))


def build_networks(
    *,
    image_size: int,
    patch_size: int,
    code_dim: int,
    projection_widths: Sequence[int],
    encoder_widths: Sequence[int],
    generator_widths: Sequence[int],
    discriminator_widths: Sequence[int],
    generator_blocks: int = 1,
    attention_resolution: int = 0,
    attention_heads: int = 1,
    prior_condition_width: int = NARROW_CONDITION,
    guidance: float = 1.0,
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
      generator_blocks: residual blocks a level of G.
      attention_resolution: side of the map with cross semantic attention; 0 for none.
      attention_heads: heads of the attention.
      prior_condition_width: hidden units of the prior that see the condition.
      guidance: 1 or more, see `Networks`.
      compute_dtype: "float32" or "bfloat16"; parameters, norms, softmax and losses stay float32.
      remat: trade time for memory in training, see `blocks.rematerialized`.

    Raises:
      ValueError: if a size breaks one of these rules.
    """
    if image_size & (image_size - 1) or not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise ValueError(
            f"image_size ({image_size}) must be a power of two from {MIN_IMAGE_SIZE} to"
            f" {MAX_IMAGE_SIZE}"
        )
    if patch_size < 1 or patch_size & (patch_size - 1):
        raise ValueError(f"patch_size ({patch_size}) must be a power of two")
    if not 1 <= guidance < float("inf"):
        raise ValueError(f"guidance ({guidance}) must be at least 1, and finite")
    if compute_dtype not in ("float32", "bfloat16"):
        raise ValueError(f"compute_dtype ({compute_dtype!r}) must be 'float32' or 'bfloat16'")
    widths = {
        "projection_widths": tuple(projection_widths),
        "encoder_widths": tuple(encoder_widths),
        "generator_widths": tuple(generator_widths),
        "discriminator_widths": tuple(discriminator_widths),
    }
    counts = {
        "code_dim": code_dim,
        "generator_blocks": generator_blocks,
        "prior_condition_width": prior_condition_width,
    }
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} ({count}) must be 1 or more")
    for name, values in widths.items():
        if any(width < 1 for width in values):
            raise ValueError(f"{name} ({values}) must each be 1 or more")
        coarsest = image_size // patch_size // 2 ** (len(values) - 1)
        if not values or coarsest < 2:
            raise ValueError(
                f"{name} ({values}) must have 1 level or more, and few enough to leave a map of"
                f" 2 x 2 or more from {image_size // patch_size} positions a side"
            )
    for name in ("encoder_widths", "generator_widths"):
        if any(width % 8 for width in widths[name]):
            raise ValueError(f"{name} ({widths[name]}) must be multiples of 8, for GroupNorm")
    if len(encoder_widths) != len(generator_widths):
        raise ValueError(
            f"encoder_widths ({widths['encoder_widths']}) and generator_widths"
            f" ({widths['generator_widths']}) must have the same number of levels"
        )
    sides = [image_size // patch_size >> level for level in range(len(generator_widths))]
    if attention_resolution:
        if attention_resolution not in sides:
            raise ValueError(
                f"attention_resolution ({attention_resolution}) must be 0 or one of the sides of"
                f" the generator's maps, {sides}"
            )
        width = widths["generator_widths"][sides.index(attention_resolution)]
        if attention_heads < 1 or width % attention_heads:
            raise ValueError(
                f"attention_heads ({attention_heads}) must divide the width ({width}) of the"
                " generator's map it works on"
            )
    options = dict(remat=remat, dtype=jnp.dtype(compute_dtype))
    return Networks(
        projection=ManifoldProjection(
            code_dim=code_dim,
            widths=widths["projection_widths"],
            **options,
        ),
        encoder=ConditionalEncoder(widths=widths["encoder_widths"], **options),
        prior=ConditionalPrior(
            code_dim=code_dim, condition_width=prior_condition_width, dtype=options["dtype"]
        ),
        generator=Generator(
            widths=widths["generator_widths"],
            patch_size=patch_size,
            num_blocks=generator_blocks,
            attention_resolution=attention_resolution,
            attention_heads=attention_heads,
            **options,
        ),
        discriminator=Discriminator(widths=widths["discriminator_widths"], **options),
        image_size=image_size,
        patch_size=patch_size,
        guidance=guidance,
    )
