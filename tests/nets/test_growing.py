"""Grown networks do on larger pictures what the smaller ones did."""

import jax
import numpy as np

from tests.conftest import TINY_MODEL
from uctgan_jax.inpainting import project_pictures, reconstruct_pictures
from uctgan_jax.nets import build_networks
from uctgan_jax.nets.growing import grow


def enlarged(pictures):
    return pictures.repeat(2, axis=1).repeat(2, axis=2)


def test_grown_networks_paint_the_enlarged_picture(networks, inpainter, batch):
    large = build_networks(image_size=64, **TINY_MODEL | dict(patch_size=8))
    shapes = jax.eval_shape(large.init_generator, jax.random.key(0))
    small_params = {name: inpainter.params[name] for name in shapes}
    params = grow(small_params, shapes, patch_size=4, factor=2)
    images, masks = batch["image"], batch["mask"]

    codes = jax.jit(project_pictures, static_argnums=0)
    expected = codes(networks, small_params, images, masks)
    got = codes(large, params, enlarged(images), enlarged(masks))
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 1e-2

    paint = jax.jit(reconstruct_pictures, static_argnums=0)
    expected = np.asarray(paint(networks, small_params, images, masks))
    got = np.asarray(paint(large, params, enlarged(images), enlarged(masks)))
    # A level of 255 for what rounding does to sums in another order.
    assert np.abs(got.astype(int) - enlarged(expected)).max() <= 1
    assert (expected != images).any(axis=(1, 2, 3)).all()
