"""Growing a model to twice the side: what comes along, and what it computes at first."""

import jax
import numpy as np
import pytest

from tests.conftest import TINY_MODEL, assert_trees_equal, model_params, moved
from uctgan_jax.growth import grow, grown_sizes
from uctgan_jax.nets import build_networks
from uctgan_jax.preprocess import normalize

LARGE = TINY_MODEL | {
    "patch_size": 8,
    "discriminator_patch_size": 16,
    "generator_widths": (16, 16),
}


@pytest.fixture(scope="module")
def small(networks):
    """Parameters as after training: fresh ones have biases of 0."""
    return moved(jax.device_get(model_params(networks, seed=3)))


@pytest.fixture(scope="module")
def fresh():
    return jax.device_get(model_params(build_networks(image_size=64, **LARGE), seed=4))


def see(networks, params, image, mask):
    """What E1, E2 and D make of pictures."""
    image, mask = networks.to_patches(image), networks.to_patches(mask)
    return {
        "E1": networks.project(params, image),
        "E2": networks.encode(params, image, mask),
        "D": networks.discriminate(params["discriminator"], image, mask),
    }


def test_e1_e2_and_d_see_the_means_of_two_by_two_pixels(networks, small, fresh, batch):
    """D folds four patches into one, so that its kernel has the patches' numbers side by side."""
    rng = np.random.default_rng(0)
    image = normalize(rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8))
    mask = batch["mask"].repeat(2, axis=1).repeat(2, axis=2).astype(np.float32)
    means = [x.reshape(8, 32, 2, 32, 2, -1).mean(axis=(2, 4)) for x in (image, mask)]
    before = jax.jit(lambda *inputs: see(networks, small, *inputs))(*means)
    large, grown = build_networks(image_size=64, **LARGE), grow(small, fresh, patch_size=4)
    after = jax.jit(lambda *inputs: see(large, grown, *inputs))(image, mask)
    assert before["D"].std() > 0.01
    assert_trees_equal(after, before, rtol=1e-4, atol=1e-4)


def test_layers_of_g_that_keep_their_size_come_along(small, fresh):
    grown = grow(small, fresh, patch_size=4)
    assert jax.tree.map(np.shape, grown) == jax.tree.map(np.shape, fresh)
    generator = grown["generator"]
    for name in ("Dense_0", "level_1_block_0", "CrossSemanticAttention_0"):
        assert_trees_equal(generator[name], small["generator"][name])
    # The finest level is twice as wide, and paints four times as many pixels.
    for name in ("level_0_block_0", "Conv_3"):
        assert_trees_equal(generator[name], fresh["generator"][name])


def test_grown_sizes():
    """The maps stay as they are: patches grow with the pictures. G may be wider, not deeper."""
    there = {"image_size": 32, "model": TINY_MODEL}
    assert grown_sizes(there, LARGE["generator_widths"]) == {"image_size": 64, "model": LARGE}
    assert there["model"]["patch_size"] == 4
    deeper = grown_sizes(there, (16, 16, 16))
    assert deeper["model"]["generator_widths"] == TINY_MODEL["generator_widths"]
