"""Choosing among candidates: distances, farthest points, and what each way keeps."""

import itertools

import numpy as np
import pytest

from uctgan_jax.inpainting.selection import (
    choose,
    farthest_points,
    nearest_distances,
    pair_distances,
)


def line(*places):
    """Distances between points on a line."""
    places = np.array(places, np.float32)
    return np.abs(places[:, None] - places)


@pytest.fixture(scope="module")
def candidates():
    """Grey pictures with a coloured hole: two reds that hardly differ, a green, a noise."""
    pictures = np.full((4, 40, 60, 3), 128, np.uint8)
    mask = np.zeros((40, 60, 1), np.uint8)
    mask[10:20, 30:50] = 1
    colours = [(200, 30, 30), (202, 30, 30), (30, 200, 30)]
    for picture, colour in zip(pictures, colours, strict=False):
        picture[10:20, 30:50] = colour
    pictures[3, 10:20, 30:50] = np.random.default_rng(0).integers(0, 256, (10, 20, 3))
    return pictures, mask


def test_distances_are_symmetric_and_see_what_differs(candidates):
    distances = pair_distances(*candidates)
    assert distances.shape == (4, 4) and distances.dtype == np.float32
    np.testing.assert_array_equal(distances, distances.T)
    np.testing.assert_array_equal(np.diag(distances), 0)
    assert 0 < distances[0, 1] < 0.1 * distances[0, 2]
    assert distances[0, 3] > distances[0, 1]


def test_distances_look_at_the_hole_only(candidates):
    pictures, mask = candidates
    elsewhere = pictures.copy()
    elsewhere[1, :, :20] = 0
    np.testing.assert_array_equal(pair_distances(elsewhere, mask), pair_distances(pictures, mask))
    at_the_rim = pictures.copy()
    at_the_rim[1, 9] = 0
    assert pair_distances(at_the_rim, mask)[0, 1] > 2 * pair_distances(pictures, mask)[0, 1]


def test_a_single_completion_has_no_distance(candidates):
    pictures, mask = candidates
    distances = pair_distances(pictures[:1], mask)
    np.testing.assert_array_equal(distances, [[0]])
    assert np.isnan(nearest_distances(distances)).all()


def test_nearest_distances():
    np.testing.assert_array_equal(nearest_distances(line(0, 1, 5, 5)), [1, 1, 0, 0])


@pytest.mark.parametrize(
    ("pictures", "mask", "message"),
    [
        (np.zeros((2, 8, 8, 3)), np.ones((8, 8, 1)), r"completions \(float64 \(2, 8, 8, 3\)\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), np.ones((8, 8, 1)), r"completions \(uint8 \(0, 8"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.ones((8, 8)), r"mask \(8, 8\) must be \(8, 8, 1\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), np.zeros((8, 8, 1)), "without a hole"),
    ],
)
def test_what_cannot_be_compared_is_refused(pictures, mask, message):
    with pytest.raises(ValueError, match=message):
        pair_distances(pictures, mask)


def test_farthest_points_begin_with_the_two_farthest_apart():
    assert farthest_points(line(4, 0, 10, 5, 1), 4).tolist() == [1, 2, 3, 0]
    assert farthest_points(line(4, 0, 10, 5, 1), 2, first=3).tolist() == [3, 1]


def test_farthest_points_are_at_least_half_as_far_apart_as_possible():
    rng = np.random.default_rng(0)

    def spread(distances, chosen):
        return min(distances[i, j] for i, j in itertools.combinations(chosen, 2))

    for _ in range(20):
        points = rng.normal(size=(9, 2))
        distances = np.linalg.norm(points[:, None] - points, axis=-1)
        best = max(spread(distances, c) for c in itertools.combinations(range(9), 4))
        chosen = farthest_points(distances, 4)
        assert best / 2 <= spread(distances, chosen)
        assert spread(distances, chosen) >= spread(distances, range(4))  # than the first drawn


def test_farthest_points_never_repeat_one():
    assert sorted(farthest_points(np.zeros((5, 5)), 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 2)), 1), r"distances \(3, 2\) must be \[N, N\]"),
        ((np.zeros((3, 3)), 0), r"count \(0\) must lie in 1 ... 3"),
        ((np.zeros((3, 3)), 4), r"count \(4\) must lie in 1 ... 3"),
        ((np.zeros((3, 3)), 1, 3), r"first \(3\) must lie in 0 ... 2"),
    ],
)
def test_impossible_choices_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        farthest_points(*arguments)


def test_each_selection_keeps_what_it_says():
    distances = line(0, 1, 2, 7, 9, 10)
    realism = [5, 4, 3, 1, 2, 0]
    options = dict(realism=realism, distances=distances)
    assert choose("diverse", 3, **options).tolist() == [0, 5, 3]
    assert choose("realistic", 3, **options).tolist() == [0, 1, 2]
    # The less real half, 3, 4 and 5, is out; the rest begin with the most real.
    assert choose("both", 2, **options).tolist() == [0, 2]
    # As many as are wanted stay in.
    assert choose("both", 4, **options).tolist() == [0, 4, 2, 1]


def test_unknown_selections_are_refused():
    options = dict(realism=[0.0, 1.0], distances=line(0, 1))
    with pytest.raises(ValueError, match="select \\('best'\\) must be None or one of diverse"):
        choose("best", 1, **options)
    with pytest.raises(ValueError, match=r"count \(3\) must lie in 1 ... 2"):
        choose("realistic", 3, **options)
