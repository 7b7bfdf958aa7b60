import json

import cv2
import numpy as np
import pytest

from uctgan_jax.avatars import benchmark as bench
from uctgan_jax.avatars.dataset import ATTRIBUTES, render

SIZE, N, K = 32, 4, 6


def composite(posterior, images):
    return np.where(posterior.mask == 1, images, posterior.image).astype(np.uint8)


def collapsed(posterior, index):
    return np.repeat(bench.oracle(1)(posterior, index), K, axis=0)


def noise(posterior, index):
    rng = np.random.default_rng(index)
    return composite(posterior, rng.integers(0, 256, (K, SIZE, SIZE, 3)))


def blurred(posterior, index):
    draws = bench.oracle(K)(posterior, index)
    return composite(posterior, np.stack([cv2.GaussianBlur(d, (0, 0), 1.0) for d in draws]))


def wrong_skin(posterior, index):
    rng = np.random.default_rng(index)
    images = []
    for _ in range(K):
        drawn = {name: int(rng.choice(values)) for name, values in posterior.support.items()}
        drawn["skin"] = (drawn["skin"] + rng.integers(1, 7)) % len(ATTRIBUTES["skin"])
        images.append(render(drawn, SIZE))
    return composite(posterior, np.stack(images))


@pytest.fixture(scope="module")
def report():
    systems = {
        "oracle": bench.oracle(K),
        "collapsed": collapsed,
        "noise": noise,
        "blurred": blurred,
        "wrong_skin": wrong_skin,
        "telea": bench.telea(K),
    }
    report, sheet = bench.benchmark(systems, image_size=SIZE, num_examples=N, num_samples=K)
    assert sheet.dtype == np.uint8 and sheet.shape[1] > (2 + 3 * len(systems)) * 96
    return report


def test_the_oracle_is_perfect_within_sampling_error(report):
    figures = report["figures"]["oracle"]
    assert figures["validity"] == 1
    assert figures["distance"] < 0.002
    assert figures["mode_recall"] == 1
    assert figures["skin_agreement"] == 1
    assert figures["known_pixels_identical"] is True
    assert 0.8 < figures["diversity_ratio"] < 1.25
    # 24 draws of up to 14 values: the expected total variation is near 0.2.
    assert figures["calibration"] < 0.3
    others = [f["realism"] for name, f in report["figures"].items() if name != "oracle"]
    assert figures["realism"] < min(others)


@pytest.mark.parametrize(
    "system, fails",
    [
        ("collapsed", {"mode_recall": (0, 1 / K), "diversity_ratio": (0, 1e-6)}),
        ("noise", {"validity": (0, 0), "mode_recall": (0, 0), "distance": (0.2, 1)}),
        ("blurred", {"validity": (0, 0.2), "distance": (0.05, 0.2)}),
        ("wrong_skin", {"skin_agreement": (0, 0.1), "validity": (0, 0.5)}),
        ("telea", {"diversity_ratio": (0, 1e-6), "validity": (0, 0)}),
    ],
)
def test_a_degenerate_system_fails_on_the_figure_made_for_it(report, system, fails):
    figures = report["figures"][system]
    for name, (low, high) in fails.items():
        assert low <= figures[name] <= high, (name, figures)


def test_realism_tells_noise_and_blur_from_the_oracle(report):
    realism = {name: figures["realism"] for name, figures in report["figures"].items()}
    assert realism["blurred"] > 1.3 * realism["oracle"]
    assert realism["noise"] > 4 * realism["oracle"]


def test_what_a_degenerate_system_does_well_stays_visible(report):
    """Each is told apart by its own figure, not by failing everywhere."""
    figures = report["figures"]
    assert figures["collapsed"]["validity"] == 1
    assert figures["collapsed"]["skin_agreement"] == 1
    assert figures["wrong_skin"]["diversity_ratio"] > 0.8
    assert figures["blurred"]["diversity_ratio"] > 0.5


def test_the_report_is_json(report):
    json.dumps(report, allow_nan=False)


def test_a_model_is_given_the_portrait_and_its_own_key(report):
    class Inpainter:
        def __init__(self):
            self.keys = []

        def sample(self, images, masks, keys, num_samples):
            self.keys.append(keys)
            return np.repeat(images[:, None], num_samples, axis=1)

    inpainter = Inpainter()
    report, _ = bench.benchmark(
        {"model": bench.model(inpainter, K)}, image_size=SIZE, num_examples=2, num_samples=K
    )
    figures = report["figures"]["model"]
    assert figures["validity"] == 1 and figures["diversity_ratio"] < 1e-6
    assert inpainter.keys[0] != inpainter.keys[1]


def test_own_codes_are_those_of_the_oracles_draws(report):
    """A model that gives every picture back is the oracle; one that blurs them is not."""

    class Inpainter:
        def __init__(self, sigma):
            self.sigma = sigma

        def reconstruct(self, images, masks):
            made = images
            if self.sigma:
                made = np.stack([cv2.GaussianBlur(image, (0, 0), self.sigma) for image in images])
            return np.where(masks == 1, made, images)

    systems = {
        "perfect": bench.own_codes(Inpainter(0), K),
        "blurred": bench.own_codes(Inpainter(1.0), K),
    }
    again, _ = bench.benchmark(systems, image_size=SIZE, num_examples=N, num_samples=K)
    for name, system in (("perfect", "oracle"), ("blurred", "blurred")):
        figures, expected = again["figures"][name], report["figures"][system]
        for figure in ("validity", "distance", "calibration", "diversity_ratio"):
            assert figures[figure] == pytest.approx(expected[figure], abs=1e-6), (name, figure)


def test_the_mean_colour_is_no_face():
    report, _ = bench.benchmark(
        {"fill": bench.mean_colour_fill(K)}, image_size=SIZE, num_examples=1, num_samples=K
    )
    assert report["figures"]["fill"]["validity"] == 0
    assert report["figures"]["fill"]["known_pixels_identical"] is True


def test_one_completion_has_no_diversity():
    with pytest.raises(ValueError, match="at least 2"):
        bench.benchmark({}, image_size=SIZE, num_examples=1, num_samples=1)
