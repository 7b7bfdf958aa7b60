"""Completing batches of pictures at the model's own size, as pure functions to be compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from uctgan_jax.nets import Networks
from uctgan_jax.preprocess import composite, denormalize, normalize
from uctgan_jax.prior import Prior, summarize

Array = jax.Array
PyTree = Any


def generate_pictures(
    networks: Networks, prior: Prior, params: PyTree, images: Array, masks: Array, codes: Array
) -> Array:
    """What G makes of each picture with each of its codes; the condition is encoded once.

    Args:
        networks: E1, E2 and G.
        prior: that makes codes of the manifold of standard-normal ones.
        params: `{"projection", "encoder", "generator"}`, and "prior" for a learned one.
        images: uint8 [B, S, S, 3]; pixels inside the hole are never looked at.
        masks: uint8 [B, S, S, 1], 1 = hole.
        codes: float32 [B, K, Z], standard normal.

    Returns:
        uint8 [B, K, S, S, 3], with known pixels as G repeats them.
    """
    condition = _encode(networks, params, images, masks)
    codes = prior.sample(params.get("prior", {}), codes, summarize(condition))
    return _generate(networks, params, condition, masks, codes)


def complete_codes(
    networks: Networks, prior: Prior, params: PyTree, images: Array, masks: Array, codes: Array
) -> Array:
    """`generate_pictures` with the known pixels of `images` as they are: uint8 [B, K, S, S, 3]."""
    pictures = generate_pictures(networks, prior, params, images, masks, codes)
    return composite(pictures, images[:, None], masks[:, None])


def project_pictures(
    networks: Networks, prior: Prior, params: PyTree, images: Array, masks: Array
) -> Array:
    """The standard-normal codes of what pictures show in a hole, float32 [B, Z].

    E1's means, inverted by the prior under each picture's own surroundings. A learned prior takes
    away what those tell by themselves, such as a face's skin colour; it comes from the picture that
    is completed with the code.

    Args:
        networks, prior, params: as for `generate_pictures`.
        images: uint8 [B, S, S, 3], whole pictures.
        masks: uint8 [B, S, S, 1], 1 = hole.
    """
    condition = summarize(_encode(networks, params, images, masks))
    codes = _project(networks, params, images)[:, None]
    return prior.invert(params.get("prior", {}), codes, condition)[:, 0]


def reconstruct_pictures(networks: Networks, params: PyTree, images: Array, masks: Array) -> Array:
    """Whole pictures completed with the code that E1 gives each: uint8 [B, S, S, 3]."""
    condition = _encode(networks, params, images, masks)
    codes = _project(networks, params, images)[:, None]
    return composite(_generate(networks, params, condition, masks, codes)[:, 0], images, masks)


def realism(networks: Networks, params: PyTree, images: Array, masks: Array) -> Array:
    """D's logit of each completion's pixels, float32 [B]; `params` have "discriminator"."""
    image = normalize(networks.to_patches(images))
    mask = networks.to_patches(masks).astype(jnp.float32)
    return networks.discriminate(params["discriminator"], image, mask)[:, 0]


def _encode(networks: Networks, params: PyTree, images: Array, masks: Array) -> tuple[Array, ...]:
    mask = networks.to_patches(masks).astype(jnp.float32)
    return networks.encode(params, normalize(networks.to_patches(images)), mask)


def _project(networks: Networks, params: PyTree, images: Array) -> Array:
    mean, _ = networks.project(params, normalize(networks.to_patches(images)))
    return mean


def _generate(
    networks: Networks, params: PyTree, condition: Sequence[Array], masks: Array, codes: Array
) -> Array:
    """G's pictures, uint8 [B, K, S, S, 3], from codes of the manifold, [B, K, Z]."""
    mask = networks.to_patches(masks).astype(jnp.float32)

    # Mapping over the codes alone computes what depends on the condition alone only once.
    def generate(code: Array) -> Array:
        return networks.to_pictures(networks.generate(params, code, condition, mask))

    return denormalize(jax.vmap(generate, in_axes=1, out_axes=1)(codes))


def sample_normal(keys: Array, num_samples: int, code_dim: int) -> Array:
    """Codes from N(0, I).

    Args:
        keys: `jax.random.key` array [B], one a picture.
        num_samples: codes a picture; the first of many equal the first of few.
        code_dim: Z.

    Returns:
        float32 [B, K, Z].
    """

    def draw(key: Array) -> Array:
        sample_keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(num_samples))
        return jax.vmap(lambda k: jax.random.normal(k, (code_dim,)))(sample_keys)

    return jax.vmap(draw)(keys)


def draw_codes(
    num_samples: int, code_dim: int, *, seed: int = 0, temperature: float = 1.0
) -> np.ndarray:
    """Codes from N(0, temperature^2 I), on the host: nothing to compile for each count.

    Args:
        num_samples: K; the first of many equal the first of few.
        code_dim: Z.
        seed: 0 or more.
        temperature: 0 or more.

    Returns:
        float32 [K, Z].

    Raises:
        ValueError: if a value is out of its range.
    """
    for name, value, lowest in (
        ("num_samples", num_samples, 1),
        ("seed", seed, 0),
        ("temperature", temperature, 0),
    ):
        if not lowest <= value < np.inf:
            raise ValueError(f"{name} ({value}) must be at least {lowest}, and finite")
    noise = np.random.default_rng(seed).standard_normal((num_samples, code_dim), np.float32)
    return noise * np.float32(temperature)
