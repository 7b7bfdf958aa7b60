import cv2
import numpy as np
import pytest

from uctgan_jax.data.masks import (
    MASK_KINDS,
    NUMBERS,
    MaskOptions,
    check_mask_options,
    draw_mask,
    draw_masks,
    least_hole_share,
)

FACE = (0.25, 0.25, 0.797, 0.75)


def draw(seed, kind, size=64, share=(0.1, 0.25), region=FACE):
    rng = np.random.default_rng(seed)
    return draw_mask(rng, MaskOptions(kind, share, region), image_size=size)


@pytest.mark.parametrize("kind", MASK_KINDS)
def test_form_region_and_determinism(kind):
    for seed in range(20):
        mask = draw(seed, kind)
        assert mask.shape == (64, 64, 1) and mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        outside = mask.copy()
        outside[16:51, 16:48] = 0
        assert outside.sum() == 0
        np.testing.assert_array_equal(mask, draw(seed, kind))


@pytest.mark.parametrize("kind", ["box", "boxes", "free_form", "blobs"])
def test_masks_differ_between_elements(kind):
    assert len({draw(seed, kind).tobytes() for seed in range(20)}) == 20


@pytest.mark.parametrize("kind", [*MASK_KINDS, ",".join(MASK_KINDS)])
def test_a_mask_does_not_depend_on_the_others_of_its_batch(kind):
    numbers = np.random.default_rng(0).random((7, NUMBERS))
    options = MaskOptions(kind, (0.1, 0.25), FACE)
    together = draw_masks(numbers, options, image_size=64)
    for mask, row in zip(together, numbers, strict=True):
        np.testing.assert_array_equal(mask, draw_masks(row[None], options, image_size=64)[0])


def test_several_kinds_are_mixed_each_as_it_is_alone():
    numbers = np.random.default_rng(0).random((3000, NUMBERS))
    mixed = draw_masks(numbers, MaskOptions("box,window,box", (0.1, 0.2), FACE), image_size=32)
    whole = mixed.sum(axis=(1, 2, 3)) == 18 * 16
    assert abs(whole.mean() - 1 / 3) < 0.03
    (rows,) = np.nonzero(~whole)
    # The share's number is spread anew: the boxes are those of a single kind, of all its shares.
    boxes = numbers[rows].copy()
    boxes[:, 0] = boxes[:, 0] * 3 % 1
    alone = draw_masks(boxes, MaskOptions("box", (0.1, 0.2), FACE), image_size=32)
    np.testing.assert_array_equal(mixed[rows], alone)
    shares = alone.mean(axis=(1, 2, 3))
    assert shares.min() < 0.11 and shares.max() > 0.19 and abs(shares.mean() - 0.15) < 0.005


@pytest.mark.parametrize("share", [(0.01, 0.02), (0.1, 0.2), (0.3, 0.6), (0.25, 0.25)])
@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("kind", ["center", "box", "boxes", "free_form", "blobs", "border"])
def test_hole_share(kind, size, share):
    shares = [draw(s, kind, size, share, (0, 0, 1, 1)).mean() for s in range(40)]
    # Free forms and blobs are exact to the pixel; a rectangle's sides are whole pixels.
    exact = kind in ("free_form", "blobs")
    slack = 0.5 / size**2 if exact else (0.5 + np.sqrt(share[1] * 2)) / size
    assert min(shares) >= share[0] - slack and max(shares) <= share[1] + slack
    if share[0] < share[1] and size == 256:  # and all of the range is used
        assert max(shares) - min(shares) > 0.7 * (share[1] - share[0])


def test_center_is_the_paper_s_hole():
    mask = draw(0, "center", 256, (0.25, 0.25), (0, 0, 1, 1))
    expected = np.zeros_like(mask)
    expected[64:192, 64:192] = 1
    np.testing.assert_array_equal(mask, expected)


def test_window_is_the_region():
    mask = draw(0, "window")
    assert mask[16:51, 16:48].all() and mask.sum() == 35 * 32


def test_boxes_are_solid_and_reach_all_of_the_region():
    seen = np.zeros((64, 64), bool)
    for seed in range(300):
        ys, xs = np.nonzero(draw(seed, "box")[..., 0])
        assert len(ys) == (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
        seen[ys, xs] = True
    assert seen[16:51, 16:48].all()


def test_half_takes_each_half():
    masks = [draw(seed, "half", region=(0, 0, 1, 1)) for seed in range(30)]
    assert all(mask.mean() == 0.5 for mask in masks)
    sides = {tuple(mask[[0, 32, 63, 32], [32, 0, 32, 63], 0].tolist()) for mask in masks}
    assert len(sides) == 4


def test_border_leaves_the_middle():
    mask = draw(0, "border", 64, (0.75, 0.75), (0, 0, 1, 1))
    expected = np.ones_like(mask)
    expected[16:48, 16:48] = 0
    np.testing.assert_array_equal(mask, expected)


def test_every_other_line():
    mask = draw(0, "every_other_line", region=(0, 0, 1, 1))
    assert mask[1::2].all() and not mask[::2].any()


def test_several_boxes_are_several():
    components = [cv2.connectedComponents(draw(seed, "boxes", 128, (0.1, 0.2), (0, 0, 1, 1)))[0] - 1
                  for seed in range(40)]  # fmt: skip
    assert np.mean(components) > 1.5


@pytest.mark.parametrize("kind", ["boxes", "free_form", "blobs"])
def test_an_almost_full_hole_ends(kind):
    assert 0.98 <= draw(0, kind, 64, (0.98, 0.99), (0, 0, 1, 1)).mean() <= 0.99


@pytest.mark.parametrize("kind", ["boxes", "free_form", "blobs"])
def test_a_hole_may_fill_its_region(kind):
    mask = draw(0, kind, 64, (0.25, 0.25), (0.25, 0.25, 0.75, 0.75))
    assert mask[16:48, 16:48].all() and mask.sum() == 32 * 32


@pytest.mark.parametrize("kind", ["boxes", "free_form", "blobs"])
def test_holes_are_anywhere(kind):
    where = np.mean([draw(s, kind, 32, (0.3, 0.3), (0, 0, 1, 1)) for s in range(400)], axis=0)
    middle = where[8:24, 8:24].mean()
    for side in (where[:16], where[16:], where[:, :16], where[:, 16:]):
        assert abs(side.mean() - 0.3) < 0.03
    assert where.min() > 0 and middle < 0.5


def test_free_forms_are_strokes():
    # Few pieces, each many pixels: not the leftovers of what was drawn.
    for seed in range(100):
        mask = draw(seed, "free_form", 128, (0.5, 0.6), (0, 0, 1, 1))
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
        assert count <= 8
        assert stats[1:, cv2.CC_STAT_AREA].max() > 0.15 * 128**2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "star"}, "Unknown mask kind 'star'.*center, window"),
        ({"kind": "box,star"}, "Unknown mask kind 'star'"),
        ({"kind": "box,"}, "Unknown mask kind ''"),
        ({"kind": "half,boxes", "hole_share": (0.1, 0.5)}, "does not fit"),
        ({"hole_share": (0.4, 0.2)}, "lowest <= highest"),
        ({"hole_share": (0.3,)}, r"\(0.3,\) must be \(lowest, highest\)"),
        ({"kind": "half", "hole_share": (0.3,)}, r"\(0.3,\) must be \(lowest, highest\)"),
        ({"hole_share": (0.0, 0.2)}, "0 < lowest"),
        ({"hole_share": (0.1, 1.0)}, "highest < 1"),
        ({"hole_share": (0.1, 0.5)}, "does not fit.*0.250"),
        ({"region": (0.5, 0.5, 0.4, 1)}, "top < bottom"),
        ({"region": (0.5, 0.5, 0.501, 1)}, "holds no pixel"),
        ({"kind": "window", "region": (0, 0, 1, 1)}, "nothing is known"),
        ({"kind": "center", "region": (0, 0, 1, 0.25), "hole_share": (0.1, 0.2)}, "square"),
    ],
)
def test_impossible_requests(change, message):
    options = dict(kind="box", hole_share=(0.1, 0.2), region=(0, 0, 0.5, 0.5))
    check_mask_options(MaskOptions(**options), image_size=64)
    impossible = MaskOptions(**(options | change))
    with pytest.raises(ValueError, match=message):
        check_mask_options(impossible, image_size=64)
    with pytest.raises(ValueError, match=message):
        draw_mask(np.random.default_rng(0), impossible, image_size=64)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("folder", ValueError, "'folder' must name a folder: folder:PATH"),
        ("paired:", ValueError, "'paired:' must name a folder: paired:PATH"),
        ("folder:/no/such", FileNotFoundError, "Mask folder '/no/such' does not exist"),
        ("folder:.", ValueError, "lowest <= highest"),
    ],
)
def test_mask_files_that_cannot_be_meant(kind, error, message):
    options = MaskOptions(kind, hole_share=(0.5, 0.1))
    with pytest.raises(error, match=message):
        check_mask_options(options, image_size=64)


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        ("box,free_form", 0.2),
        ("folder:masks", 0.2),
        ("window", 0.125),
        ("box,half", 0.0625),
        ("every_other_line,window", 0.0625),
        ("paired:masks", 0.0),
    ],
)
def test_the_least_hole_is_that_of_any_kind(kind, least):
    options = MaskOptions(kind, hole_share=(0.2, 0.3), region=(0.0, 0.25, 0.5, 0.5))
    assert least_hole_share(options) == least


@pytest.mark.parametrize(
    ("kind", "share", "count"),
    [("border", 0.01, 0), ("center", 0.999, 32 * 32), ("box,center", 0.999, 32 * 32)],
)
def test_holes_that_round_to_nothing_or_everything_are_refused(kind, share, count):
    options = MaskOptions(kind, hole_share=(share, share))
    with pytest.raises(ValueError, match=f"hole of {count} of 1024 pixels: it must be neither"):
        check_mask_options(options, image_size=32)
