"""`Inpainter.complete` on pictures of any size with any holes."""

import cv2
import jax
import numpy as np
import pytest

from benchmarks.rim_seam import rim_step
from tests.inpainting.test_windows import CASES
from uctgan_jax import Inpainter
from uctgan_jax.images import resize
from uctgan_jax.inpainting import blending


def picture_for(hole):
    """Random colours, smooth: what a hole hides shows nowhere else."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, hole.shape[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("name", CASES)
def test_known_pixels_are_kept_and_every_hole_is_filled(inpainter, name):
    hole = CASES[name]
    image = picture_for(hole)
    marked = np.where(hole[..., None] > 0, np.uint8([255, 0, 255]), image)
    out = inpainter.complete(marked, hole, num_samples=2).images
    assert out.shape == (2, *image.shape) and out.dtype == np.uint8
    for completion in out:
        np.testing.assert_array_equal(completion[hole == 0], image[hole == 0])
        kept = (completion[hole > 0] == (255, 0, 255)).all(-1)
        assert kept.mean() < 0.02  # some may be so by chance
    again = inpainter.complete(image, hole, num_samples=2).images
    np.testing.assert_array_equal(again, out)  # nothing of the marking was seen


def test_one_code_serves_all_holes(inpainter):
    """Two holes with the same surroundings, far apart, are completed alike by one code."""
    tile = picture_for(np.zeros((100, 100)))
    image = np.concatenate([tile, np.full((100, 300, 3), 128, np.uint8), tile], axis=1)
    hole = np.zeros(image.shape[:2], np.uint8)
    hole[44:56, 44:56] = hole[44:56, 444:456] = 1
    out = inpainter.complete(image, hole, num_samples=3).images.astype(int)
    first, second = out[:, 44:56, 44:56], out[:, 44:56, 444:456]
    assert np.abs(first - second).max() <= 1
    assert np.abs(first[0] - first[1]).max() > 3


def test_the_first_of_more_are_those_of_fewer_in_all_windows(inpainter):
    hole = CASES["scratch"]
    image = picture_for(hole)
    more = inpainter.complete(image, hole, num_samples=11, seed=3).images
    fewer = inpainter.complete(image, hole, num_samples=5, seed=3).images
    # Other programs may round otherwise, and overlaps round once more.
    assert np.abs(more[:5].astype(int) - fewer).max() <= 2


def test_eight_devices_give_the_completions_of_one(inpainter):
    one = Inpainter(inpainter.config, jax.device_get(inpainter.params), 0, "", jax.devices()[:1])
    hole = CASES["thin border"]
    image = picture_for(hole)
    ours, theirs = (model.complete(image, hole, num_samples=3).images for model in (inpainter, one))
    assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_a_few_programs_serve_all_sizes_and_holes(inpainter):
    def complete(name, count):
        hole = CASES[name]
        inpainter.complete(picture_for(hole), hole, num_samples=count)

    complete("half", 3)  # one window
    complete("scratch", 3)  # many
    programs = inpainter._generate_pictures._cache_size()
    for name in CASES:
        complete(name, 3)
    assert inpainter._generate_pictures._cache_size() == programs <= 4


def test_work_goes_to_the_devices_in_bounded_batches(inpainter, monkeypatch):
    sizes = []
    spread = inpainter._spread

    def watch(function, *arrays, **static):
        sizes.append(arrays[0].nbytes)
        return spread(function, *arrays, **static)

    monkeypatch.setattr(inpainter, "_spread", watch)
    hole = CASES["thin border"]
    inpainter.complete(picture_for(hole), hole, num_samples=20)
    assert len(sizes) > 5
    assert max(sizes) <= 4 * 8 * 32 * 32 * 3  # four pictures of the model's size a device


def test_no_seam_at_the_rim(inpainter, monkeypatch):
    """An untrained generator's colours have nothing to do with the picture's."""
    hole = np.zeros((300, 400), np.uint8)
    hole[100:180, 120:220] = 1
    image = picture_for(hole)
    blended = inpainter.complete(image, hole, num_samples=3).images

    class Unmatched(blending.RimMatcher):
        def __call__(self, generated):
            return generated

    monkeypatch.setattr(blending, "RimMatcher", Unmatched)
    cut = inpainter.complete(image, hole, num_samples=3).images
    blended, cut = (
        np.mean([rim_step(completion, hole) for completion in out]) for out in (blended, cut)
    )
    assert blended < cut / 3


def test_a_large_picture_in_bounded_time(inpainter):
    hole = np.zeros((2000, 3000), np.uint8)
    hole[100:130, 200:240] = hole[1000:1150, 1500:1700] = hole[1990:, 2990:] = 1
    image = picture_for(hole)
    out = inpainter.complete(image, hole, num_samples=2).images
    known = hole == 0
    for completion in out:
        np.testing.assert_array_equal(completion[known], image[known])
    centre = resize(out[0][1000:1150, 1500:1700], 10, 10)
    assert np.abs(centre.astype(int) - resize(image[1000:1150, 1500:1700], 10, 10)).max() > 3
