"""l1, PSNR and SSIM between pictures, pixel by pixel.

Pictures come in as float32 [B, H, W, 3] in [-1, 1] and are measured on the scale [0, 1], on which
these figures are usually quoted. Every function gives one value a picture. The `hole_` variants
average over the hole's pixels alone; masks are [H, W, 1] or [B, H, W, 1], 1 = hole.
All raise ValueError for other shapes, types and ranges, for NaN, and for a mask without a hole.
"""

import dm_pix
import jax
import jax.numpy as jnp

from uctgan_jax.evaluation.metrics.check import check_images, check_masks

SSIM_WINDOW = 11


def l1(images, references) -> jax.Array:
    """Mean absolute difference, float32 [B], in [0, 1]; 0 for equal pictures."""
    check_images(images, references)
    return _l1(images, references)


def hole_l1(images, references, masks) -> jax.Array:
    """As `l1`, over the hole's pixels only."""
    check_images(images, references)
    return _hole_l1(images, references, check_masks(masks, images))


def psnr(images, references) -> jax.Array:
    """Peak signal-to-noise ratio in dB, float32 [B], at least 0; +inf for equal pictures.

    10 log10(1 / mean squared error). An average over pictures has to say what it does with +inf.
    """
    check_images(images, references)
    return _psnr(images, references)


def hole_psnr(images, references, masks) -> jax.Array:
    """As `psnr`, from the mean squared error over the hole's pixels only; +inf if they are equal.

    Composites share their known pixels with the truth, so `psnr` grows as the hole shrinks, by
    10 log10(pixels / hole pixels); this one does not.
    """
    check_images(images, references)
    return _hole_psnr(images, references, check_masks(masks, images))


def ssim(images, references) -> jax.Array:
    """Structural similarity, float32 [B], in [-1, 1]; 1 for equal pictures.

    The variant of Wang et al. 2004: Gaussian window of 11 x 11 pixels with sigma 1.5 where it fits
    wholly inside the picture, k1 = 0.01, k2 = 0.03, averaged over positions and colour channels.
    Pictures must be at least 11 x 11.
    """
    check_images(images, references, min_size=SSIM_WINDOW)
    return _ssim(images, references)


def _unit(images):
    return (images + 1) / 2


@jax.jit
def _l1(images, references):
    return jnp.abs(_unit(images) - _unit(references)).mean((1, 2, 3))


@jax.jit
def _hole_l1(images, references, masks):
    return _hole_mean(jnp.abs(_unit(images) - _unit(references)), masks)


@jax.jit
def _psnr(images, references):
    return jax.vmap(dm_pix.psnr)(_unit(images), _unit(references))


@jax.jit
def _hole_psnr(images, references, masks):
    return -10 * jnp.log10(_hole_mean((_unit(images) - _unit(references)) ** 2, masks))


@jax.jit
def _ssim(images, references):
    return dm_pix.ssim(_unit(images), _unit(references), filter_size=SSIM_WINDOW)


def _hole_mean(values, masks):
    return (values * masks).sum((1, 2, 3)) / (masks.sum((1, 2, 3)) * values.shape[-1])
