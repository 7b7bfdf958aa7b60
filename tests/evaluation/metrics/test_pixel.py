import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from uctgan_jax.evaluation.metrics import pixel


@pytest.fixture(scope="module")
def pictures():
    """Two pictures and noisy ones beside them, float32 [2, 24, 20, 3] in [-1, 1]."""
    rng = np.random.default_rng(0)
    first = rng.uniform(-1, 1, (2, 24, 20, 3)).astype(np.float32)
    noise = rng.normal(0, [[[[0.1]]], [[[0.5]]]], first.shape)
    return first, np.clip(first + noise, -1, 1).astype(np.float32)


def constant(value, shape=(1, 12, 12, 3)):
    return np.full(shape, value, np.float32)


def test_l1_by_hand():
    # A quarter of [-1, 1] apart is a quarter of [0, 1].
    np.testing.assert_allclose(pixel.l1(constant(-0.25), constant(0.25)), [0.25], rtol=1e-6)


def test_psnr_by_hand():
    np.testing.assert_allclose(pixel.psnr(constant(-0.1), constant(0.1)), [20.0], rtol=1e-5)


def test_psnr_equals_scikit_image(pictures):
    expected = [peak_signal_noise_ratio(b, a, data_range=2) for a, b in zip(*pictures, strict=True)]
    np.testing.assert_allclose(pixel.psnr(*pictures), expected, rtol=1e-5)


def test_ssim_equals_scikit_image(pictures):
    expected = []
    for a, b in zip(*pictures, strict=True):
        _, ssim_map = structural_similarity(
            (a + 1) / 2,
            (b + 1) / 2,
            data_range=1,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        expected.append(ssim_map[5:-5, 5:-5].mean())
    np.testing.assert_allclose(pixel.ssim(*pictures), expected, atol=2e-5)


def test_equal_pictures_are_the_best_there_is(pictures):
    first, _ = pictures
    mask = np.ones((24, 20, 1), np.uint8)
    np.testing.assert_array_equal(pixel.l1(first, first), 0)
    np.testing.assert_array_equal(pixel.psnr(first, first), np.inf)
    np.testing.assert_allclose(pixel.ssim(first, first), 1, rtol=1e-6)
    np.testing.assert_array_equal(pixel.hole_psnr(first, first, mask), np.inf)


def test_opposite_pictures_are_the_worst_there_is():
    black, white = constant(-1), constant(1)
    np.testing.assert_allclose(pixel.l1(black, white), 1)
    np.testing.assert_allclose(pixel.psnr(black, white), 0, atol=1e-6)
    np.testing.assert_allclose(pixel.ssim(black, white), 1e-4 / (1 + 1e-4), rtol=1e-3)


def test_hole_figures_see_the_hole_alone():
    first = constant(0, (2, 12, 12, 3))
    second = constant(1, (2, 12, 12, 3))  # the known part is as wrong as can be
    masks = np.zeros((2, 12, 12, 1), np.uint8)
    masks[0, 2:5, 3:7] = 1
    masks[1, 6:, :] = 1
    second[0, 2:5, 3:7] = 0.2
    second[1, 6:, :] = 0.4
    np.testing.assert_allclose(pixel.hole_l1(first, second, masks), [0.1, 0.2], rtol=1e-5)
    np.testing.assert_allclose(pixel.hole_psnr(first, second, masks), [20, 13.9794], rtol=1e-5)


def test_a_full_hole_is_the_whole_picture(pictures):
    mask = np.ones((24, 20, 1), np.uint8)
    np.testing.assert_allclose(pixel.hole_l1(*pictures, mask), pixel.l1(*pictures), rtol=1e-5)
    np.testing.assert_allclose(pixel.hole_psnr(*pictures, mask), pixel.psnr(*pictures), rtol=1e-5)


@pytest.mark.parametrize("metric", [pixel.l1, pixel.psnr, pixel.ssim])
@pytest.mark.parametrize(
    "images, rule",
    [
        (constant(np.nan), "must lie in"),
        (constant(np.inf), "must lie in"),
        (constant(1.1), "must lie in"),
        (constant(0).astype(np.uint8), "must be float32"),
        (constant(0)[0], r"must be \[B, H, W, 3\]"),
        (constant(0, (1, 12, 13, 3)), "one shape"),
    ],
)
def test_unfit_pictures_are_refused(metric, images, rule):
    with pytest.raises(ValueError, match=rule):
        metric(constant(0), images)


def test_ssim_refuses_pictures_smaller_than_its_window():
    small = constant(0, (1, 10, 12, 3))
    with pytest.raises(ValueError, match="10 x 12 pixels must be at least 11 x 11"):
        pixel.ssim(small, small)


@pytest.mark.parametrize(
    "mask, rule",
    [
        (np.zeros((12, 12, 1), np.uint8), "without a hole"),
        (np.full((12, 12, 1), 255, np.uint8), "0 and 1 only"),
        (np.ones((12, 12), np.uint8), "Masks of shape"),
    ],
)
def test_unfit_masks_are_refused(mask, rule):
    with pytest.raises(ValueError, match=rule):
        pixel.hole_l1(constant(0), constant(0), mask)
