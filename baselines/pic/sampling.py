"""Completions by PIC, as pure functions to be compiled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from baselines.pic.nets import Networks
from uctgan_jax.inpainting.sampler import sample_normal
from uctgan_jax.nets import sample_code
from uctgan_jax.preprocess import composite, denormalize, normalize

Array = jax.Array
PyTree = Any


def complete(
    networks: Networks, params: PyTree, images: Array, masks: Array, keys: Array, num_samples: int
) -> Array:
    """Completions with codes of the conditional prior, known pixels bit for bit.

    Args:
      networks, params: of the model.
      images: uint8 [B, S, S, 3]; pixels inside the hole are never looked at.
      masks: uint8 [B, S, S, 1], 1 = hole.
      keys: `jax.random.key` array [B], one a picture.
      num_samples: K; the first of many equal the first of few.

    Returns:
      uint8 [B, K, S, S, 3].
    """
    image, mask = _to_patches(networks, images, masks)
    features = networks.encode(params, image, mask)
    mean, log_variance = (x[:, None] for x in networks.infer_prior(params, features))
    noise = sample_normal(keys, num_samples, math.prod(networks.code_shape))
    noise = noise.reshape(*noise.shape[:2], *networks.code_shape)
    codes = sample_code(noise, mean, log_variance)
    return _composites(networks, params, images, masks, features, codes)


def reconstruct(networks: Networks, params: PyTree, images: Array, masks: Array) -> Array:
    """Whole pictures completed with the mean of their posterior: uint8 [B, S, S, 3]."""
    image, mask = _to_patches(networks, images, masks)
    features = networks.encode(params, image, mask)
    mean, _ = networks.infer_posterior(params, image, mask)
    return _composites(networks, params, images, masks, features, mean[:, None])[:, 0]


def _to_patches(networks: Networks, images: Array, masks: Array) -> tuple[Array, Array]:
    mask = networks.to_patches(masks).astype(jnp.float32)
    return normalize(networks.to_patches(images)), mask


def _composites(
    networks: Networks,
    params: PyTree,
    images: Array,
    masks: Array,
    features: Sequence[Array],
    codes: Array,
) -> Array:
    """Pictures completed with codes [B, K, h, w, C]: uint8 [B, K, S, S, 3]."""
    mask = networks.to_patches(masks).astype(jnp.float32)

    def generate(code: Array) -> Array:
        return networks.to_pictures(networks.generate(params, code, features, mask))

    pictures = denormalize(jax.vmap(generate, in_axes=1, out_axes=1)(codes))
    return composite(pictures, images[:, None], masks[:, None])
