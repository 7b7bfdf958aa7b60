"""Patches, halving and doubling against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uctgan_jax.nets import blocks


@pytest.fixture
def pictures():
    return jax.random.normal(jax.random.key(0), (2, 8, 12, 3))


def test_patches_hold_their_pixels_row_by_row_and_unfold_again(pictures):
    patches = blocks.space_to_depth(pictures, 4)
    np.testing.assert_array_equal(patches[1, 1, 2], pictures[1, 4:8, 8:12].reshape(-1))
    np.testing.assert_array_equal(blocks.depth_to_space(patches, 4), pictures)


def test_each_color_is_the_fold_of_the_mask_in_three_colors():
    mask = jax.random.bernoulli(jax.random.key(1), shape=(2, 8, 8, 1))
    three = jnp.broadcast_to(mask, (2, 8, 8, 3))
    np.testing.assert_array_equal(
        blocks.each_color(blocks.space_to_depth(mask, 2)), blocks.space_to_depth(three, 2)
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_downsample_averages_and_upsample_repeats(pictures, dtype):
    x = pictures.astype(dtype)
    means = np.asarray(x, np.float32).reshape(2, 4, 2, 6, 2, 3).mean((2, 4))
    tolerance = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(
        blocks.downsample(x).astype(jnp.float32), means, rtol=2 * tolerance, atol=2 * tolerance
    )
    np.testing.assert_array_equal(blocks.upsample(x), x.repeat(2, axis=1).repeat(2, axis=2))
    assert blocks.downsample(x).dtype == blocks.upsample(x).dtype == dtype


def test_gradients_of_halving_and_doubling(pictures):
    weights = jax.random.normal(jax.random.key(2), (2, 4, 6, 3))
    spread = jax.grad(lambda x: (blocks.downsample(x) * weights).sum())(pictures)
    np.testing.assert_allclose(spread, weights.repeat(2, axis=1).repeat(2, axis=2) / 4)
    gathered = jax.grad(lambda x: (blocks.upsample(x) * pictures).sum())(weights)
    sums = np.asarray(pictures).reshape(2, 4, 2, 6, 2, 3).sum((2, 4))
    np.testing.assert_allclose(gathered, sums, rtol=1e-5, atol=1e-6)


def test_first_convolution_sees_pixels_of_four_channels(pictures):
    """Kernels are those of patches of picture and mask brought together pixel by pixel."""
    mask = jax.random.bernoulli(jax.random.key(3), shape=(2, 8, 12, 1)).astype(jnp.float32)
    together = blocks.space_to_depth(jnp.concatenate([pictures, mask], axis=-1), 2)
    apart = jnp.concatenate(
        [blocks.space_to_depth(pictures, 2), blocks.space_to_depth(mask, 2)], axis=-1
    )
    plain = blocks.conv(5)
    variables = plain.init(jax.random.key(4), together)
    sorting = blocks.conv(5, conv_general_dilated=blocks.convolve_picture_and_mask)
    np.testing.assert_allclose(
        sorting.apply(variables, apart), plain.apply(variables, together), rtol=1e-5, atol=1e-6
    )
