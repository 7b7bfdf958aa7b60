"""Growing a model to twice the side: what comes along, and what it computes at first."""

import jax
import numpy as np
import pytest

from tests.conftest import TINY_MODEL, assert_trees_equal, model_params
from uctgan_jax.growth import grow, grown_sizes, widened_prior
from uctgan_jax.nets import build_networks

SMALL = {"image_size": 32, "model": TINY_MODEL}
LARGE = {
    "image_size": 64,
    "model": TINY_MODEL | {"patch_size": 8, "generator_widths": (16, 16), "guidance": 3.0},
}


@pytest.fixture(scope="module")
def small(networks):
    return model_params(networks, seed=3)


@pytest.fixture(scope="module")
def fresh():
    return model_params(build_networks(image_size=64, **LARGE["model"]), seed=4)


def test_of_doubled_pixels_all_but_g_give_what_they_gave(networks, small, fresh, batch):
    """E1, E2, the prior and D, on pictures whose every pixel is four.

    D's kernels are normalised, so its logits double: without biases, by exactly two.
    """
    grown = grow(small, fresh)
    image = batch["image"].astype(np.float32) / 255
    mask = batch["mask"].astype(np.float32)
    code = np.ones((len(image), 2, TINY_MODEL["code_dim"]), np.float32)

    def see(networks, params, image, mask):
        image, mask = networks.to_patches(image), networks.to_patches(mask)
        condition = networks.encoder.apply({"params": params["encoder"]}, image, mask)
        judge = {"params": params["discriminator"], "spectral_norm": params["spectral_norm"]}
        return {
            "E1": networks.projection.apply({"params": params["projection"]}, image),
            "E2": condition,
            "prior": networks.to_manifold(params, code, condition),
            "D": networks.discriminator.apply(judge, image, mask),
        }

    before = see(networks, small, image, mask)
    doubled = (np.repeat(np.repeat(x, 2, axis=1), 2, axis=2) for x in (image, mask))
    # Guidance is the config's, not the parameters'.
    equally_guided = LARGE["model"] | {"guidance": TINY_MODEL["guidance"]}
    after = see(build_networks(image_size=64, **equally_guided), grown, *doubled)
    assert_trees_equal(before | {"D": 2 * before["D"]}, after, rtol=1e-4, atol=3e-4)


def test_layers_of_g_that_keep_their_size_come_along(small, fresh):
    grown = grow(small, fresh)
    assert jax.tree.map(np.shape, grown) == jax.tree.map(np.shape, fresh)
    generator = grown["generator"]
    for name in ("Dense_0", "level_1_block_0"):
        assert_trees_equal(generator[name], small["generator"][name])
    # The finest level is twice as wide, and paints four times as many pixels.
    for name in ("level_0_block_0", "Conv_3"):
        assert_trees_equal(generator[name], fresh["generator"][name])


def test_grown_sizes():
    """The maps stay as they are: patches grow with the pictures. G may be wider, not deeper."""
    grown = grown_sizes(SMALL, LARGE["model"]["generator_widths"])
    assert grown == {"image_size": 64, "model": TINY_MODEL | LARGE["model"] | {"guidance": 2.0}}
    assert SMALL["model"]["patch_size"] == 4
    deeper = grown_sizes(SMALL, (16, 16, 16))
    assert deeper["model"]["generator_widths"] == TINY_MODEL["generator_widths"]


def test_a_wider_prior_does_what_it_did_and_can_learn_more(networks, small):
    wider = build_networks(image_size=32, **TINY_MODEL | {"prior_condition_width": 300})
    fresh = model_params(wider, seed=5)["prior"]
    # A trained one: freshly made, it has no velocity at all.
    narrow = jax.tree.map(
        lambda x: x + 0.05 * np.sin(np.arange(x.size)).reshape(x.shape), small["prior"]
    )
    widened = widened_prior(narrow, fresh)
    assert jax.tree.map(np.shape, widened) == jax.tree.map(np.shape, fresh)
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((2, 3, TINY_MODEL["code_dim"])).astype(np.float32)
    side = networks.image_size // TINY_MODEL["patch_size"]
    condition = [
        rng.standard_normal((2, side >> level, side >> level, width)).astype(np.float32)
        for level, width in enumerate(TINY_MODEL["encoder_widths"])
    ]

    def velocity(networks, prior):
        return networks.velocity({"prior": prior}, condition)(codes, np.float32(0.3))

    before = velocity(networks, narrow)
    assert np.abs(before).mean() > 0.1
    np.testing.assert_allclose(velocity(wider, widened), before, rtol=1e-4, atol=1e-5)
    # The further units are there to be heard of: what they feed has a gradient.
    grads = jax.grad(lambda prior: velocity(wider, prior).sum())(widened)
    assert np.abs(grads["of_condition_1"]["kernel"][256:]).max() > 0
    assert_trees_equal(widened_prior(narrow, small["prior"]), narrow)
