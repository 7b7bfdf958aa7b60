import itertools

import numpy as np
import pytest

from uctgan_jax.evaluation.metrics import diversity
from uctgan_jax.evaluation.metrics.lpips import lpips


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((40, 40, 1), np.uint8)
    mask[4:36, 6:38] = 1
    mask[10:12, 10:12] = 0  # a known island inside the hole's box
    return mask


@pytest.fixture(scope="module")
def completions(mask):
    """Three pictures that differ in the hole, float32 [3, 40, 40, 3]."""
    rng = np.random.default_rng(1)
    noise = rng.uniform(-1, 1, (3, 40, 40, 3))
    return np.where(mask == 1, noise, 0.2).astype(np.float32)


def test_pairs_are_all_of_them_by_default():
    pairs = diversity.select_pairs(5)
    assert [tuple(p) for p in pairs] == list(itertools.combinations(range(5), 2))


def test_a_number_of_pairs_is_drawn_by_the_seed():
    pairs = diversity.select_pairs(10, 7, seed=3)
    assert len({tuple(p) for p in pairs}) == 7
    assert (pairs[:, 0] < pairs[:, 1]).all()
    np.testing.assert_array_equal(pairs, diversity.select_pairs(10, 7, seed=3))
    assert (pairs != diversity.select_pairs(10, 7, seed=(3, 1))).any()


@pytest.mark.parametrize(
    "arguments, rule", [((1,), "at least 2"), ((4, 7), "1 ... 6"), ((4, 0), "1 ... 6")]
)
def test_impossible_pairs_are_refused(arguments, rule):
    with pytest.raises(ValueError, match=rule):
        diversity.select_pairs(*arguments)


def doubled(pictures):
    """64 px or more of 32 to 63, as the figures of small pictures are defined."""
    return pictures.repeat(2, axis=1).repeat(2, axis=2)


def test_whole_picture_against_brute_force(completions):
    pairs = diversity.select_pairs(3)
    large = doubled(completions)
    expected = np.mean([lpips(large[i, None], large[j, None]) for i, j in pairs])
    assert diversity.lpips_diversity(completions, pairs) == pytest.approx(expected, rel=1e-4)


def test_in_the_hole_against_brute_force(completions, mask):
    pairs = diversity.select_pairs(3)
    crops = doubled(completions[:, 4:36, 6:38])
    expected = np.mean([lpips(crops[i, None], crops[j, None]) for i, j in pairs])
    measured = diversity.lpips_diversity_in_hole(completions, mask, pairs)
    assert measured == pytest.approx(expected, rel=1e-4)


def test_l1_in_the_hole_against_brute_force(completions, mask):
    pairs = diversity.select_pairs(3)
    hole = completions[:, mask[..., 0] == 1] / 2
    expected = np.mean([np.abs(hole[i] - hole[j]).mean() for i, j in pairs])
    measured = diversity.l1_diversity_in_hole(completions, mask, pairs)
    assert measured == pytest.approx(expected, rel=1e-5)


def test_equal_completions_have_no_diversity(completions, mask):
    pairs = diversity.select_pairs(3)
    same = np.repeat(completions[:1], 3, axis=0)
    assert diversity.lpips_diversity(same, pairs) < 1e-12
    assert diversity.lpips_diversity_in_hole(same, mask, pairs) < 1e-12
    assert diversity.l1_diversity_in_hole(same, mask, pairs) == 0


def test_the_crop_is_the_bounding_box():
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 80, 90, 3)).astype(np.float32)
    mask = np.zeros((80, 90, 1), np.uint8)
    mask[5:70, 20] = mask[30, 10:85] = 1
    np.testing.assert_array_equal(diversity.crop_to_hole(pictures, mask), pictures[:, 5:70, 10:85])


def test_small_crops_are_enlarged_by_a_whole_factor(completions):
    mask = np.zeros((40, 40, 1), np.uint8)
    mask[3:15, 20:37] = 1  # 12 x 17 -> 6 x
    crops = diversity.crop_to_hole(completions, mask)
    assert crops.shape == (3, 72, 102, 3)
    for row, column in ((0, 0), (5, 5), (2, 4)):
        np.testing.assert_array_equal(crops[:, row::6, column::6], completions[:, 3:15, 20:37])


def test_crops_of_varying_boxes_can_be_given_one_size(completions, mask):
    assert diversity.crop_to_hole(completions, mask, size=40).shape == (3, 40, 40, 3)


def test_a_mask_without_a_hole_or_of_another_size_is_refused(completions):
    with pytest.raises(ValueError, match="without a hole"):
        diversity.crop_to_hole(completions, np.zeros((40, 40, 1), np.uint8))
    with pytest.raises(ValueError, match=r"must be \(40, 40, 1\)"):
        diversity.crop_to_hole(completions, np.ones((41, 40, 1), np.uint8))
