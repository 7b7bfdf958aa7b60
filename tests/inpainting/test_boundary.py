"""What a mask means, and which pixels around a hole are trusted."""

import cv2
import numpy as np
import pytest

from uctgan_jax.inpainting.boundary import clean_surroundings, coverage_of_array, hole_of
from uctgan_jax.inpainting.windows import Window, whole

HOLE = np.zeros((64, 80), np.uint8)
HOLE[20:44, 24:56] = 1
MAGENTA = np.uint8([255, 0, 255])


def cleaned(image, coverage=None):
    coverage = 255 * HOLE if coverage is None else coverage
    hole = hole_of(coverage)
    return clean_surroundings(image, coverage, hole, [whole(hole)])


def smooth_picture():
    coarse = np.random.default_rng(0).integers(100, 157, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (80, 64), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("mask", "coverage"),
    [
        (np.array([[False, True]]), [0, 255]),
        (np.array([[0, 1]]), [0, 255]),
        (np.array([[0, 15]]), [0, 255]),  # a label
        (np.array([[0, 60, 255]]), [0, 60, 255]),
        (np.array([[0, 257 * 60, 65535]], np.uint16), [0, 60, 255]),
        (np.array([[0, 0.2, 1.0]]), [0, 51, 255]),
        (np.array([[0.0, 0.02]]), [0, 5]),  # floats are no labels
    ],
)
def test_arrays_are_coverage(mask, coverage):
    assert coverage_of_array(mask).tolist() == [coverage]
    assert coverage_of_array(mask[..., None]).tolist() == [coverage]


def test_what_is_covered_in_part_is_filled():
    assert hole_of(np.uint8([[0, 7, 8, 128, 255]])).tolist() == [[0, 0, 1, 1, 1]]


def test_growing():
    coverage = np.zeros((9, 9), np.uint8)
    coverage[4, 4] = 255
    expected = np.zeros((9, 9), np.uint8)
    expected[2:7, 2:7] = 1
    np.testing.assert_array_equal(hole_of(coverage, grow=2), expected)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_what_is_left_of_an_object_is_replaced(width):
    image = smooth_picture()
    thing = cv2.dilate(HOLE, np.ones((2 * width + 1,) * 2, np.uint8)) > 0
    clean = cleaned(np.where(thing[..., None], MAGENTA, image))
    left = thing & (HOLE == 0)
    assert np.abs(clean[left].astype(int) - image[left]).mean() < 4  # magenta: 120
    np.testing.assert_array_equal(clean[~thing], image[~thing])


def test_each_hole_is_judged_by_itself():
    image = np.full((64, 240, 3), 120, np.uint8)
    hole = np.concatenate([HOLE, 0 * HOLE, HOLE], axis=1)
    image[19:45, 23:57] = MAGENTA
    windows = [Window(np.s_[0:64, 0:80], np.s_[20:44, 24:56], 255 * HOLE[20:44, 24:56])]
    clean = clean_surroundings(image, 255 * hole, hole, windows)
    assert (clean[hole == 0] == 120).all()


def test_a_picture_without_an_object_is_left_alone():
    image = smooth_picture()
    image[:, 40:] //= 2  # an edge that meets the rim
    image[30, :] = 0  # and a line
    np.testing.assert_array_equal(cleaned(image), image)


def test_what_is_hidden_is_not_looked_at():
    image = smooth_picture()
    hidden = np.where(HOLE[..., None] > 0, MAGENTA, image)
    np.testing.assert_array_equal(cleaned(hidden)[HOLE == 0], cleaned(image)[HOLE == 0])


def test_faintly_covered_pixels_are_replaced_beside_the_hole_alone():
    image = np.full((64, 80, 3), 120, np.uint8)
    image[19, 40] = image[5, 5] = 126
    coverage = 255 * HOLE
    coverage[19, 40] = coverage[5, 5] = 4
    clean = cleaned(image, coverage)
    assert (clean[19, 40] == 120).all() and (clean[5, 5] == 126).all()


def test_known_pixels_that_all_lie_beside_holes_are_left_alone():
    hole = np.zeros((40, 40), np.uint8)
    hole[::2] = 1
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    clean = clean_surroundings(image, 255 * hole, hole, [whole(hole)])
    np.testing.assert_array_equal(clean, image)
