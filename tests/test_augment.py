"""Random changes of pictures: what they keep, and that they follow the example."""

import jax
import jax.numpy as jnp
import numpy as np

from uctgan_jax.augment import augment, jitter_colours
from uctgan_jax.nets.blocks import depth_to_space, space_to_depth

KEYS = jax.random.split(jax.random.key(0), 4)
PIXELS = jax.random.uniform(jax.random.key(1), (4, 16, 16, 3), minval=-0.5, maxval=0.5)
IMAGES = space_to_depth(PIXELS, 2)
MASKS = space_to_depth(jnp.zeros((4, 16, 16, 1)).at[:, 4:10, 6:12].set(1), 2)


def test_jitter_is_one_gain_and_offset_a_channel():
    changed = depth_to_space(jitter_colours(IMAGES, KEYS, 1.0), 2)
    for picture, original in zip(np.asarray(changed), np.asarray(PIXELS), strict=True):
        for channel in range(3):
            x, y = original[..., channel].ravel(), picture[..., channel].ravel()
            inside = np.abs(y) < 1
            gain, offset = np.polyfit(x[inside], y[inside], 1)
            assert 0.5 <= gain <= 1.2 and -0.4 <= offset <= 0.4
            np.testing.assert_allclose(y, np.clip(gain * x + offset, -1, 1), atol=1e-5)


def test_no_jitter_changes_nothing():
    np.testing.assert_allclose(jitter_colours(IMAGES, KEYS, 0.0), IMAGES, rtol=1e-6)


def test_a_picture_and_its_mask_shift_together():
    """Where the hole is painted in one colour, it is found again under the shifted mask."""
    marked = jnp.where(jnp.repeat(MASKS, 3, axis=-1) > 0, 5.0, IMAGES * 0)
    images, masks = augment(marked, MASKS, KEYS)
    images, masks = (np.asarray(depth_to_space(x, 2)) for x in (images, masks))
    for image, mask in zip(images, masks, strict=True):
        hole = mask[..., 0] > 0
        assert hole.sum() == 36
        assert image[hole].min() > image[~hole].max()
    places = {tuple(np.argwhere(mask[..., 0] > 0)[0]) for mask in masks}
    assert len(places) > 1


def test_the_same_key_changes_alike_wherever_it_stands():
    images, masks = augment(IMAGES, MASKS, KEYS)
    again, _ = augment(IMAGES[::-1], MASKS[::-1], KEYS[::-1])
    np.testing.assert_allclose(again[::-1], images, rtol=1e-6)


def test_gradients_pass():
    grads = jax.grad(lambda x: augment(x, MASKS, KEYS)[0].sum())(IMAGES)
    assert np.isfinite(grads).all() and np.abs(grads).max() > 0
