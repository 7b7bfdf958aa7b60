import numpy as np
import pytest

from uctgan_jax.data.masks import MASK_KINDS, check_mask_options, draw_mask

FACE = (0.25, 0.25, 0.797, 0.75)


def draw(seed, kind, size=64, share=(0.1, 0.25), region=FACE):
    rng = np.random.default_rng(seed)
    return draw_mask(rng, kind=kind, image_size=size, hole_share=share, region=region)


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


@pytest.mark.parametrize("kind", ["box", "free_form"])
def test_masks_differ_between_elements(kind):
    assert len({draw(seed, kind).tobytes() for seed in range(20)}) == 20


@pytest.mark.parametrize("share", [(0.01, 0.02), (0.1, 0.2), (0.3, 0.6), (0.25, 0.25)])
@pytest.mark.parametrize("size", [32, 256])
@pytest.mark.parametrize("kind", ["center", "box", "free_form"])
def test_hole_share(kind, size, share):
    shares = [draw(s, kind, size, share, (0, 0, 1, 1)).mean() for s in range(40)]
    # Free forms are exact to the pixel; a side of a rectangle is rounded to whole pixels.
    slack = 0.5 / size**2 if kind == "free_form" else (0.5 + np.sqrt(share[1] * 2)) / size
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


def test_an_almost_full_free_form_ends():
    assert draw(0, "free_form", 64, (0.98, 0.99), (0, 0, 1, 1)).mean() > 0.97


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "star"}, "Unknown mask kind 'star'.*center, window"),
        ({"hole_share": (0.4, 0.2)}, "lowest <= highest"),
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
    options = dict(kind="box", image_size=64, hole_share=(0.1, 0.2), region=(0, 0, 0.5, 0.5))
    check_mask_options(**options)
    with pytest.raises(ValueError, match=message):
        check_mask_options(**(options | change))
    with pytest.raises(ValueError, match=message):
        draw_mask(np.random.default_rng(0), **(options | change))
