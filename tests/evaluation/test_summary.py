import numpy as np
import pytest

from uctgan_jax.evaluation.summary import BEST, DIVERSITY, by_hole_share, compare_sets, summarise
from uctgan_jax.evaluation.summary import variants as variants_of


def measurement(share=0.25, value=0.5):
    """What `measure` gives of one picture with two completions."""
    return {
        "samples": {name: [value, 2 * value] for name in BEST},
        "reconstruction": {name: [value] for name in BEST},
        "mean_colour_fill": {name: [value] for name in BEST},
        "diversity": dict.fromkeys(DIVERSITY, value),
        "hole_share": share,
        "known_changed": 1,
        "known_l1": 0.5,
    }


def test_averages_by_hand():
    figures = summarise([measurement(value=0.5), measurement(value=1.5)])
    assert figures["samples"]["l1"] == {"mean_of_k": 1.5, "best_of_k": 1.0}
    assert figures["samples"]["psnr"] == {"mean_of_k": 1.5, "best_of_k": 2.0}
    assert figures["reconstruction"]["ssim"] == 1.0
    assert figures["diversity"]["lpips_hole"] == 1.0
    assert figures["known_pixels_changed"] == 2 and figures["known_l1"] == 0.5


def test_a_figure_that_is_not_a_number_is_refused():
    with pytest.raises(ValueError, match="'l1' is not finite"):
        summarise([measurement(value=np.nan)])


def test_bins_of_the_hole_share():
    bins = by_hole_share([measurement(share) for share in (0.0999, 0.1, 0.11, 0.3, 1.0)])
    counts = {share: figures["num_examples"] for share, figures in bins.items()}
    assert counts == {"0-10 %": 1, "10-20 %": 2, "30-40 %": 1, "90-100 %": 1}
    assert bins["10-20 %"] == {
        "num_examples": 2,
        **summarise([measurement(0.1), measurement(0.11)]),
    }


def test_equal_sets_cannot_be_told_apart():
    features = np.random.default_rng(0).normal(size=(12, 4))
    names = ("drawn", "truth", "drawn_hole", "truth_hole")
    measurements = [
        {"features": {**dict.fromkeys(names, vector), "logits": None}} for vector in features
    ]
    figures = compare_sets(measurements, "fid")
    assert abs(figures["fid"]) < 1e-9 and abs(figures["fid_hole"]) < 1e-9
    assert figures["precision"] == figures["recall"] == figures["coverage"] == 1
    assert figures["u_ids"] == pytest.approx(0.5)


def test_the_variant_follows_mask_and_size():
    mask = np.ones((16, 48, 1), np.uint8)
    assert "resized to 48 x 48" in variants_of(False, mask)["lpips_hole"]
    assert "16 x 48 enlarged 4 x" in variants_of(True, mask)["lpips_out"]
    assert "enlarged" not in variants_of(True, np.ones((64, 64, 1)))["lpips_out"]
