"""Blending: the rim's colours, known pixels, overlapping windows."""

import cv2
import numpy as np
import pytest

from benchmarks.rim_seam import rim_step
from uctgan_jax.inpainting import blending
from uctgan_jax.inpainting.blending import RimMatcher, extend, paste
from uctgan_jax.inpainting.windows import Window, whole


def smooth_picture(height, width):
    coarse = np.random.default_rng(0).integers(40, 216, (4, 4, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


HOLE = np.zeros((64, 80), np.uint8)
HOLE[20:50, 10:45] = 1
HOLE[0:12, 60:70] = 1  # at the border


@pytest.mark.parametrize("cast", [(40, -30, 20), "varying"])
def test_a_colour_cast_leaves_no_seam(cast):
    image = smooth_picture(64, 80)
    if cast == "varying":
        cast = np.linspace(-50, 50, 80)[None, :, None]
    generated = np.clip(image + np.array(cast), 0, 255).astype(np.uint8)
    cut = np.where(HOLE[..., None] > 0, generated, image)
    matched = np.where(HOLE[..., None] > 0, RimMatcher(image, HOLE, 1)(generated), image)
    natural = rim_step(image, HOLE)
    assert rim_step(cut, HOLE) > natural + 15
    assert rim_step(matched, HOLE) < natural + 1.5
    # And nearly all of the hole is as it should be.
    inside = np.abs(matched.astype(float) - image)[HOLE > 0]
    assert inside.mean() < 4


def test_what_fits_is_left_alone():
    image = smooth_picture(64, 80)
    np.testing.assert_array_equal(RimMatcher(image, HOLE, 2)(image), image)


def test_details_inside_are_kept():
    image = smooth_picture(64, 80)
    generated = image.copy()
    generated[30:36, 20:26] = 255
    np.testing.assert_array_equal(RimMatcher(image, HOLE, 1)(generated), generated)


def test_hidden_pixels_do_not_matter():
    image = smooth_picture(64, 80)
    generated = image[::-1].copy()
    expected = RimMatcher(image, HOLE, 2)(generated)
    changed = np.where(HOLE[..., None] > 0, np.uint8(0), image)
    np.testing.assert_array_equal(RimMatcher(changed, HOLE, 2)(generated), expected)


def test_large_holes_are_matched_at_a_lower_resolution(monkeypatch):
    image = smooth_picture(400, 500)
    hole = cv2.resize(HOLE, (500, 400), interpolation=cv2.INTER_NEAREST)
    generated = np.clip(image.astype(int) + 40, 0, 255).astype(np.uint8)
    fine = RimMatcher(image, hole, 8)(generated)
    monkeypatch.setattr(blending, "_MOST_PIXELS", 10_000)
    sizes = []
    monkeypatch.setattr(blending, "extend", lambda v, w: sizes.append(v.shape) or extend(v, w))
    coarse = RimMatcher(image, hole, 8)(generated)
    assert sizes[0][0] * sizes[0][1] <= 10_100
    difference = np.abs(fine.astype(float) - coarse)[hole > 0]
    assert difference.mean() < 1 and rim_step(coarse, hole) < rim_step(image, hole) + 1


def test_no_known_pixel_in_reach():
    generated = smooth_picture(10, 10)
    everywhere = np.ones((10, 10), np.uint8)
    np.testing.assert_array_equal(RimMatcher(generated, everywhere, 1)(generated), generated)


def test_extend_keeps_what_is_known_and_fills_the_rest_within_its_range():
    weights = np.zeros((33, 47), np.float32)
    weights[0] = weights[:, 0] = 1
    values = np.random.default_rng(0).normal(size=(33, 47, 3)).astype(np.float32)
    values *= weights[..., None]
    filled = extend(values, weights)
    np.testing.assert_allclose(filled[weights > 0], values[weights > 0], atol=1e-6)
    assert filled.min() > values.min() - 0.5 and filled.max() < values.max() + 0.5
    near, far = (part.std(axis=(0, 1)).max() for part in (filled[1:4, 4:], filled[16:, 24:]))
    assert far < near / 3


def test_extend_solves_for_the_membrane():
    """Between two known sides it is a plane."""
    weights = np.zeros((20, 41), np.float32)
    weights[:, 0] = weights[:, -1] = 1
    values = np.zeros((20, 41, 3), np.float32)
    values[:, -1] = 40
    filled = extend(values, weights)
    plane = np.arange(41)[None, :, None]
    assert np.abs(filled - plane).max() < 4 and np.abs(filled - plane).mean() < 2


def test_overlapping_windows_are_averaged_and_known_pixels_kept():
    image = np.full((32, 64, 3), 100, np.uint8)
    hole = np.zeros((32, 64), np.uint8)
    hole[:, 8:56] = 1
    image[hole > 0] = 7
    left = Window(np.s_[0:32, 0:40], np.s_[0:32, 8:40], np.full((32, 32), 255, np.uint8))
    right = Window(np.s_[0:32, 24:64], np.s_[0:32, 24:56], np.full((32, 32), 255, np.uint8))
    left.weights[:, 16:] = np.linspace(240, 15, 16)
    right.weights[:, :16] = np.linspace(15, 240, 16)
    result, pasted = image.copy(), np.zeros((32, 64), np.uint16)
    for window, value in ((left, 90), (right, 150)):
        generated = np.full((1, 16, 16, 3), value, np.uint8)
        # Known pixels at either end agree: there is nothing to match.
        known = np.where(hole[..., None] > 0, image, np.uint8(value))
        paste([result], generated, known, hole, window, pasted)
    np.testing.assert_array_equal(result[hole == 0], image[hole == 0])
    row = result[10, 8:56, 0].astype(int)
    assert (row[:15] == 90).all() and (row[-15:] == 150).all()
    assert (np.diff(row) >= 0).all() and np.diff(row).max() <= 5  # 60 levels over 16 pixels


def test_paste_fills_each_completion_with_its_own():
    image = smooth_picture(64, 80)
    results = np.repeat(image[None], 2, axis=0)
    generated = np.stack([image[:64, :64], image[:64, 16:]])
    paste(results, generated, image, HOLE, whole(HOLE))
    np.testing.assert_array_equal(results[:, HOLE == 0], np.stack([image[HOLE == 0]] * 2))
    assert np.abs(results[0].astype(int) - results[1])[HOLE > 0].mean() > 1
