"""Where windows lie: all holes are filled, with context, at a fitting scale, in few windows."""

import numpy as np
import pytest

from uctgan_jax.inpainting.windows import largest_hole, place_windows, view, whole

SIZE, HOLE_SHARE = 32, 0.16


def boxes(shape, *holes):
    hole = np.zeros(shape, np.uint8)
    for box in holes:
        hole[box] = 1
    return hole


def border(shape, width):
    hole = np.ones(shape, np.uint8)
    hole[width:-width, width:-width] = 0
    return hole


def specks(shape, count):
    hole = np.zeros(shape, np.uint8)
    hole.flat[np.random.default_rng(0).choice(hole.size, count, replace=False)] = 1
    return hole


def every_other_line(shape):
    hole = np.zeros(shape, np.uint8)
    hole[::2] = 1
    return hole


CASES = {
    "tiny picture": boxes((16, 16), np.s_[3:9, 2:12]),
    "40 x 30": boxes((40, 30), np.s_[5:20, 4:20]),
    "one pixel": boxes((100, 130), np.s_[99:, 129:]),
    "three holes": boxes((200, 300), np.s_[9:30, 9:45], np.s_[100:190, 150:250], np.s_[5:9, 290:]),
    "touching the border": boxes((150, 150), np.s_[:40, 50:100]),
    "tall": boxes((3000, 20), np.s_[1000:1100], np.s_[2990:, :3]),
    "wide": boxes((20, 3000), np.s_[:, 5:2900]),
    "scratch": boxes((200, 300), np.s_[100:103]),
    "thin border": border((120, 150), 6),
    "outpainting": border((200, 300), 50),
    "half": boxes((200, 300), np.s_[:, :150]),
    "all but one pixel": 1 - boxes((70, 50), np.s_[33:34, 20:21]),
    "ring around a hole": border((160, 160), 4) | boxes((160, 160), np.s_[60:90, 70:95]),
    "many specks": specks((100, 120), 60),
    "every other line": every_other_line((60, 50)),
}


@pytest.mark.parametrize("name", CASES)
def test_windows_fill_every_hole_pixel_and_no_other(name):
    hole = CASES[name]
    filled = np.zeros(hole.shape, int)
    for window in place_windows(hole, SIZE, HOLE_SHARE):
        assert window.weights.dtype == np.uint8
        for core, box, length in zip(window.core, window.box, hole.shape, strict=True):
            assert 0 <= box.start <= core.start < core.stop <= box.stop <= length
        filled[window.core] += window.weights
    np.testing.assert_array_equal(filled > 0, hole > 0)


@pytest.mark.parametrize("name", CASES)
def test_the_model_sees_known_pixels_in_every_window(name):
    hole = CASES[name]
    for window in place_windows(hole, SIZE, HOLE_SHARE):
        assert not hole[window.box].all()


def shapes(hole):
    windows = place_windows(hole, SIZE, HOLE_SHARE)
    return [tuple(edge.stop - edge.start for edge in window.box) for window in windows]


def test_context_grows_with_the_hole():
    assert shapes(boxes((4000, 6000), np.s_[2000:2008, 3000:3008])) == [(SIZE, SIZE)]
    # Up to the cells of four pixels in which holes are gathered.
    ((height, width),) = shapes(boxes((4000, 6000), np.s_[2000:2400, 3000:3400]))
    assert height == width and 1000 <= height <= 1020
    # A square picture with a hole as in training is seen whole, as in training.
    assert shapes(boxes((96, 96), np.s_[30:69, 30:69])) == [(96, 96)]
    assert shapes(boxes((96, 96), np.s_[30:96, 30:54])) == [(96, 96)]


def test_holes_of_a_scale_share_a_window_and_others_have_their_own():
    together = boxes((1000, 1000), np.s_[450:550, 450:550], np.s_[410:450, 556:592])
    assert len(shapes(together)) == 1
    apart = boxes((1000, 1000), np.s_[450:550, 450:550], np.s_[40:110, 570:640])
    assert len(shapes(apart)) == 2
    small_beside_large = boxes((1000, 1000), np.s_[400:600, 400:600], np.s_[620:624, 620:624])
    assert sorted(shapes(small_beside_large)) == [(32, 32), (500, 500)]


def test_long_holes_are_filled_piece_by_piece_near_the_models_resolution():
    assert set(shapes(boxes((1000, 1500), np.s_[500:505]))) == {(SIZE, SIZE)}
    sides = {max(shape) for shape in shapes(border((600, 900), 12))}
    assert max(sides) <= 3 * 12 / HOLE_SHARE**0.5
    # But not what is merely oblong.
    assert len(shapes(boxes((600, 600), np.s_[200:300, 100:350]))) == 1


def test_pieces_overlap_and_their_weights_fall_towards_their_edges():
    hole = boxes((100, 1500), np.s_[50:55])
    windows = place_windows(hole, SIZE, HOLE_SHARE)
    columns = sorted((window.core[1].start, window.core[1].stop) for window in windows)
    overlaps = [before[1] - after[0] for before, after in zip(columns, columns[1:], strict=False)]
    assert min(overlaps) >= 4
    weights = windows[3].weights[2].astype(int)
    middle = weights[len(weights) // 2]
    assert 0 < weights[0] < middle / 2 and 0 < weights[-1] < middle / 2


@pytest.mark.parametrize("hole", [specks((1200, 1600), 20_000), every_other_line((2000, 3000))])
def test_fine_dense_holes_take_a_bounded_number_of_windows(hole):
    assert 100 < len(place_windows(hole, SIZE, HOLE_SHARE)) <= 512


def test_the_largest_hole():
    windows = place_windows(CASES["three holes"], SIZE, HOLE_SHARE)
    core = windows[largest_hole(windows)].core
    assert core == np.s_[100:190, 150:250]


def test_whole():
    window = whole(boxes((32, 32), np.s_[3:9, 2:12], np.s_[20:22, 20:22]))
    assert window.box == np.s_[0:32, 0:32] and window.core == np.s_[3:22, 2:22]
    assert np.count_nonzero(window.weights) == 64


def test_a_view_shows_nothing_of_the_hole():
    image = np.full((997, 997, 3), 100, np.uint8)
    hole = boxes((997, 997), np.s_[500:501, 500:501], np.s_[100:300, 100:317])
    image[hole > 0] = 255
    small, mask = view(image, hole, np.s_[0:997, 0:997], SIZE)
    assert small.shape == (SIZE, SIZE, 3) and mask.shape == (SIZE, SIZE, 1)
    assert (small[mask[..., 0] == 0] == 100).all()
    assert mask[16, 16] and mask[4, 4] and not mask[20, 20]  # one pixel of a million is enough


def test_a_view_of_a_small_picture_shows_nothing_of_the_hole():
    image = np.full((11, 11, 3), 100, np.uint8)
    hole = boxes((11, 11), np.s_[4:6, 4:6])
    image[hole > 0] = 255
    small, mask = view(image, hole, np.s_[0:11, 0:11], SIZE)
    assert (small[mask[..., 0] == 0] == 100).all()


@pytest.mark.parametrize(("height", "width"), [(50, 400), (400, 50), (3, 400), (300, 400)])
def test_a_view_of_a_rectangle_is_mirrored_to_a_square(height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    hole = boxes((height, width), np.s_[:1, :200])
    small, mask = view(image, hole, np.s_[0:height, 0:width], SIZE)
    assert small.shape == (SIZE, SIZE, 3)
    span = max(1, round(SIZE * min(height, width) / 400))
    start = (SIZE - span) // 2
    if height > width:
        small, mask = small.swapaxes(0, 1), mask.swapaxes(0, 1)
    np.testing.assert_array_equal(small[start - 1], small[start])  # the first row again
    np.testing.assert_array_equal(small[start + span], small[start + span - 1])
    np.testing.assert_array_equal(mask[start - 1], mask[start])
