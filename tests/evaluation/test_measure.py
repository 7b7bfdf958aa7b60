import numpy as np

from uctgan_jax.evaluation.measure import fill_with_mean_colour


def test_mean_colour_fill_by_hand():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0], image[0, 1], image[1, 0] = (10, 0, 1), (20, 0, 1), (40, 0, 2)
    mask = np.zeros((2, 2, 1), np.uint8)
    mask[1, 1] = 1
    filled = fill_with_mean_colour(image, mask)
    np.testing.assert_array_equal(filled[1, 1], (23, 0, 1))
    np.testing.assert_array_equal(filled[0], image[0])
    assert (fill_with_mean_colour(image, np.ones_like(mask)) == 128).all()
