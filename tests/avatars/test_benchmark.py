import json

import cv2
import numpy as np
import pytest

from uctgan_jax.avatars import benchmark as bench
from uctgan_jax.avatars.dataset import ATTRIBUTES, render, sample_attributes
from uctgan_jax.avatars.posterior import FACE_WINDOW, Posterior
from uctgan_jax.data.masks import MaskOptions, draw_mask

SIZE, K = 32, 4


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


def judge(num_examples, **systems):
    report, sheet = bench.benchmark(
        systems, image_size=SIZE, num_examples=num_examples, num_samples=K
    )
    assert sheet.dtype == np.uint8 and sheet.shape[1] > (2 + 3 * len(systems)) * 96
    json.dumps(report, allow_nan=False)
    return report["figures"]


@pytest.fixture(scope="module")
def figures():
    return judge(1, oracle=bench.oracle(K), collapsed=collapsed, noise=noise, wrong_skin=wrong_skin)


def assert_within(figures, **ranges):
    for name, (low, high) in ranges.items():
        assert low <= figures[name] <= high, (name, figures)


def test_the_oracle_is_perfect_within_sampling_error(figures):
    oracle = figures["oracle"]
    assert_within(oracle, validity=(1, 1), distance=(0, 0.002), mode_recall=(1, 1))
    assert_within(oracle, skin_agreement=(1, 1), diversity_ratio=(0.7, 1.4))
    # 4 draws of up to 14 values each: the expected total variation is near 0.5.
    assert oracle["calibration"] < 0.7
    assert oracle["known_pixels_identical"] is True
    assert oracle["realism"] < min(f["realism"] for n, f in figures.items() if n != "oracle")


def test_a_degenerate_system_fails_on_the_figure_made_for_it(figures):
    assert_within(figures["collapsed"], mode_recall=(0, 1 / K), diversity_ratio=(0, 1e-6))
    assert_within(figures["noise"], validity=(0, 0), mode_recall=(0, 0), distance=(0.2, 1))
    assert_within(figures["wrong_skin"], skin_agreement=(0, 0.1), validity=(0, 0.5))
    # And not by failing everywhere.
    assert_within(figures["collapsed"], validity=(1, 1), skin_agreement=(1, 1))
    assert figures["wrong_skin"]["diversity_ratio"] > 0.7


@pytest.mark.slow
def test_blurred_completions_and_baselines():
    figures = judge(
        4,
        oracle=bench.oracle(K),
        noise=noise,
        blurred=blurred,
        telea=bench.telea(K),
        fill=bench.mean_colour_fill(K),
    )
    assert_within(figures["blurred"], validity=(0, 0.2), distance=(0.05, 0.2))
    assert figures["blurred"]["diversity_ratio"] > 0.5
    for name in ("telea", "fill"):
        assert_within(figures[name], diversity_ratio=(0, 1e-6), validity=(0, 0))
        assert figures[name]["known_pixels_identical"] is True
    assert figures["blurred"]["realism"] > 1.3 * figures["oracle"]["realism"]
    assert figures["noise"]["realism"] > 4 * figures["oracle"]["realism"]


@pytest.fixture(scope="module")
def posterior():
    window = MaskOptions("window", region=FACE_WINDOW)
    mask = draw_mask(np.random.default_rng(0), window, image_size=SIZE)
    return Posterior(sample_attributes("test", 0), mask)


def test_a_model_is_given_the_portrait_and_its_own_key(posterior):
    class Inpainter:
        def __init__(self):
            self.keys = []

        def sample(self, images, masks, keys, num_samples):
            np.testing.assert_array_equal(images[0], posterior.image)
            np.testing.assert_array_equal(masks[0], posterior.mask)
            self.keys.append(keys)
            return np.repeat(images[:, None], num_samples, axis=1)

    inpainter = Inpainter()
    for index in (0, 1):
        completions = bench.model(inpainter, K)(posterior, index)
        np.testing.assert_array_equal(completions, np.stack([posterior.image] * K))
    assert inpainter.keys[0] != inpainter.keys[1]


def test_own_codes_are_those_of_the_oracles_draws(posterior):
    """A model that gives every picture back is the oracle."""

    class Inpainter:
        def reconstruct(self, images, masks):
            np.testing.assert_array_equal(masks, np.stack([posterior.mask] * K))
            return images

    draws = bench.oracle(K)(posterior, 3)
    assert len({draw.tobytes() for draw in draws}) == K
    np.testing.assert_array_equal(bench.own_codes(Inpainter(), K)(posterior, 3), draws)


def test_one_completion_has_no_diversity():
    with pytest.raises(ValueError, match="at least 2"):
        bench.benchmark({}, image_size=SIZE, num_examples=1, num_samples=1)
