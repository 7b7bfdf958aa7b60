"""D: a logit of the picture and its mask, and one of each map that is given."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uctgan_jax.nets import blocks
from uctgan_jax.nets.discriminator import Discriminator

PICTURES = jax.random.normal(jax.random.key(0), (4, 32, 32, 3))
MASKS = jnp.zeros((4, 32, 32, 1)).at[:, 8:20, 4:16].set(1.0)


@pytest.fixture(scope="module")
def judge():
    """D on pictures, in patches of 4 that it folds to patches of 8."""
    discriminator = Discriminator(widths=(8, 16), fold=2)
    patches = [blocks.space_to_depth(x, 4) for x in (PICTURES, MASKS)]
    params = jax.jit(discriminator.init)(jax.random.key(1), *patches)

    @jax.jit
    def judge(pictures, masks):
        return discriminator.apply(
            params, *(blocks.space_to_depth(x, 4) for x in (pictures, masks))
        )

    return judge


def test_each_picture_gets_one_logit_of_its_own(judge):
    logits = judge(PICTURES, MASKS)
    assert logits.shape == (4, 1) and logits.dtype == jnp.float32
    changed = judge(PICTURES.at[2].set(0.5), MASKS)
    np.testing.assert_array_equal((changed != logits)[:, 0], [False, False, True, False])


def test_the_mask_is_judged_beside_the_picture(judge):
    assert (judge(PICTURES, MASKS) != judge(PICTURES, jnp.zeros_like(MASKS))).all()


def test_every_pixel_counts(judge):
    gradients = jax.grad(lambda pictures: judge(pictures, MASKS).sum())(PICTURES)
    assert np.isfinite(gradients).all()
    assert (np.abs(gradients) > 0).all()


def test_folded_patches_are_those_of_the_larger_size():
    """Patches of 4 folded by 2 are patches of 8, with their numbers in another order."""
    fours, eights = (
        jax.eval_shape(
            Discriminator(widths=(8,), fold=fold).init,
            jax.random.key(0),
            blocks.space_to_depth(PICTURES, size),
            blocks.space_to_depth(MASKS, size),
        )
        for size, fold in ((4, 2), (8, 1))
    )
    assert jax.tree.map(jnp.shape, fours) == jax.tree.map(jnp.shape, eights)


def test_each_map_has_a_judge_of_its_own():
    discriminator = Discriminator(widths=(8,), head_width=4)
    maps = [jax.random.normal(jax.random.key(i), (4, 18, 18, 6 + i)) for i in range(2)]
    params = discriminator.init(jax.random.key(1), PICTURES, MASKS, maps)
    logits = discriminator.apply(params, PICTURES, MASKS, maps)
    changed = discriminator.apply(params, PICTURES, MASKS, [maps[0], maps[1].at[2].set(0.5)])
    np.testing.assert_array_equal(
        changed != logits, [[row == 2 and column == 2 for column in range(3)] for row in range(4)]
    )
    # What completes pictures asks for the pixels' judgement alone.
    pixels = discriminator.apply(params, PICTURES, MASKS)
    np.testing.assert_allclose(pixels, logits[:, :1], rtol=1e-6)
