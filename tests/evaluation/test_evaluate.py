import json

import jax
import numpy as np
import pytest

from tests.conftest import TINY_MODEL
from uctgan_jax import Inpainter
from uctgan_jax.configs import default
from uctgan_jax.evaluation import evaluate as evaluation
from uctgan_jax.evaluation.cache import EvaluationCache
from uctgan_jax.evaluation.extractors import Extractor, vgg16
from uctgan_jax.evaluation.metrics.frechet import frechet_distance
from uctgan_jax.evaluation.metrics.lpips import vgg16_features
from uctgan_jax.evaluation.summary import DIVERSITY

SIZE = 32


class FakeInpainter:
    """Draws the hole from the picture's key; reconstructs the truth off by a constant."""

    devices = jax.devices()[:1]

    def __init__(self, error=8):
        self.error = error

    def sample(self, images, masks, keys, num_samples):
        shape = (num_samples, *images.shape[1:])
        noise = jax.vmap(lambda key: jax.random.randint(key, shape, 0, 256))(keys)
        return np.where(masks[:, None] == 1, np.asarray(noise), images[:, None]).astype(np.uint8)

    def reconstruct(self, images, masks):
        return np.where(masks == 1, images // 2 + self.error, images).astype(np.uint8)


def make_batches(num_examples, batch_size):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:SIZE, 0:SIZE] * 2
    images = np.zeros((num_examples, SIZE, SIZE, 3), np.uint8)
    for i in range(num_examples):
        images[i] = np.stack([x + y, 10 * i + x, 2 * y + rng.integers(0, 40, x.shape)], axis=-1)
    masks = np.zeros((num_examples, SIZE, SIZE, 1), np.uint8)
    masks[:, 8:24, 8:24] = 1
    for start in range(0, num_examples, batch_size):
        rows = slice(start, start + batch_size)
        yield {
            "image": images[rows],
            "mask": masks[rows],
            "index": np.arange(num_examples)[rows],
        }


def evaluate(num_examples=5, batch_size=3, **changes):
    return evaluate_with(FakeInpainter(), num_examples, batch_size, **changes)[0]


def evaluate_with(inpainter, num_examples, batch_size=2, **changes):
    options = {"num_samples": 3, "same_hole": True, "seed": 1} | changes
    return evaluation.evaluate(
        evaluation.model(inpainter, options["num_samples"], options["seed"]),
        make_batches(num_examples, batch_size),
        num_examples=num_examples,
        reconstruct=inpainter.reconstruct,
        devices=inpainter.devices,
        **options,
    )


@pytest.fixture(scope="module")
def report():
    return evaluate()


def test_the_figures_do_not_depend_on_the_batch_size(report):
    assert evaluate(batch_size=2) == report
    assert evaluate(batch_size=5) == report


def test_a_mask_without_a_hole_is_named():
    batches = list(make_batches(5, 2))
    batches[1]["mask"][1] = 0
    with pytest.raises(ValueError, match="mask of picture 3 of the split has no hole"):
        evaluation.evaluate(
            evaluation.model(FakeInpainter(), 3, 1),
            batches,
            num_examples=5,
            num_samples=3,
            same_hole=False,
            devices=FakeInpainter.devices,
        )


def test_the_figures_depend_on_the_seed(report):
    assert evaluate(seed=2)["figures"]["samples"] != report["figures"]["samples"]


def test_figures_by_hand(report):
    """The hole's figures recomputed in plain NumPy from the fake's own output."""
    batch = next(make_batches(5, 5))
    model = FakeInpainter()
    keys = evaluation.picture_keys(1, batch["index"])
    samples = model.sample(batch["image"], batch["mask"], keys, 3)[:, :, 8:24, 8:24] / 255
    truth = batch["image"][:, None, 8:24, 8:24] / 255
    l1 = np.abs(samples - truth).mean((2, 3, 4))
    figures = report["figures"]
    drawn = figures["samples"]
    assert drawn["hole_l1"]["mean_of_k"] == pytest.approx(l1.mean(), rel=1e-4)
    assert drawn["hole_l1"]["best_of_k"] == pytest.approx(l1.min(1).mean(), rel=1e-4)
    psnr = -10 * np.log10(((samples - truth) ** 2).mean((2, 3, 4)))
    assert drawn["hole_psnr"]["best_of_k"] == pytest.approx(psnr.max(1).mean(), rel=1e-4)
    restored = model.reconstruct(batch["image"], batch["mask"])[:, 8:24, 8:24] / 255
    psnr = -10 * np.log10(((restored - truth[:, 0]) ** 2).mean((1, 2, 3)))
    assert figures["reconstruction"]["hole_psnr"] == pytest.approx(psnr.mean(), rel=1e-4)
    pairs = [(0, 1), (0, 2), (1, 2)]
    between = np.mean([np.abs(samples[:, i] - samples[:, j]).mean() for i, j in pairs])
    assert figures["diversity"]["l1_hole"] == pytest.approx(between, rel=1e-4)


def test_best_of_k_is_no_worse_than_the_mean(report):
    for name, values in report["figures"]["samples"].items():
        if name in ("psnr", "ssim", "hole_psnr"):
            assert values["best_of_k"] > values["mean_of_k"]
        else:
            assert values["best_of_k"] < values["mean_of_k"]


def test_the_report_says_what_it_is(report):
    assert report["num_examples"] == 5
    assert report["num_samples"] == 3
    assert report["num_pairs"] == 3
    assert report["figures"]["known_pixels_changed"] == 0 == report["figures"]["known_l1"]
    assert report["figures"]["hole_share"] == 0.25
    assert set(report["figures"]["samples"]) | set(DIVERSITY) <= set(report["variants"])
    assert "cropped, 16 x 16 enlarged 4 x" in report["variants"]["lpips_hole"]


def test_the_sets_are_compared_whole_and_by_the_holes_crops():
    """Against VGG16's features of pictures whose pixels are repeated up to 64 px."""
    num_examples = 7
    report = evaluate(num_examples, num_samples=2, extractor=vgg16())
    (batch,) = make_batches(num_examples, num_examples)
    keys = evaluation.picture_keys(1, batch["index"])
    drawn = FakeInpainter().sample(batch["image"], batch["mask"], keys, 2)[:, 0]

    def distance(rows, factor):
        pictures = [images[:, rows, rows] for images in (drawn, batch["image"])]
        repeated = [p.repeat(factor, axis=1).repeat(factor, axis=2) for p in pictures]
        return frechet_distance(*(vgg16_features(np.float32(p) / 127.5 - 1) for p in repeated))

    figures = report["sets"]
    assert figures["fd_vgg16"] == pytest.approx(distance(slice(None), 2), rel=1e-3)
    assert figures["fd_vgg16_hole"] == pytest.approx(distance(slice(8, 24), 4), rel=1e-3)
    assert 0 <= figures["precision"] <= 1 and "inception_score" not in figures
    json.dumps(report, allow_nan=False)


def test_altered_known_pixels_are_reported_and_put_back():
    class Careless(FakeInpainter):
        def sample(self, *arguments):
            samples = super().sample(*arguments)
            samples[-1, -1, :4, :4, 0] ^= 128
            return samples

    careful, careless = (
        evaluate_with(inpainter, 2, num_samples=2)[0]["figures"]
        for inpainter in (FakeInpainter(), Careless())
    )
    assert careless.pop("known_pixels_changed") == 1
    # 16 of 3 x 768 known values, in one of four completions.
    assert careless.pop("known_l1") == pytest.approx(16 * 128 / 255 / (3 * 768) / 4)
    assert careful.pop("known_pixels_changed") == careful.pop("known_l1") == 0
    assert careless == careful


def test_a_system_without_reconstructions_has_the_same_figures_otherwise(report):
    class WithoutProjection(FakeInpainter):
        reconstruct = None

    other, _ = evaluate_with(WithoutProjection(), 5, 3)
    assert other["figures"].pop("reconstruction") is None
    assert other["figures"]["samples"]["lpips"] == pytest.approx(
        report["figures"]["samples"]["lpips"], rel=1e-4
    )
    assert other["figures"]["diversity"] == report["figures"]["diversity"]


def pixels(images):
    """Stands for a classifier: features and logits of two pictures or two crops."""
    flat = images[:, 8:24:3, 8:24:3].reshape(2, -1)
    return flat[:, :12], flat[:, :5]


CLASSIFIER = Extractor("fid", pixels, {})


def test_a_classifier_adds_its_scores():
    figures = evaluate(7, num_samples=2, extractor=CLASSIFIER)["sets"]
    assert {"fid", "fid_hole"} < set(figures)
    assert 0 < figures["modified_inception_score"] <= 1 <= figures["inception_score"]


def test_an_interrupted_evaluation_goes_on_and_ends_alike(tmp_path):
    """Interrupted in the third picture: the first batch is measured once, the rest with another."""

    class Counting(FakeInpainter):
        seen = 0

        def sample(self, images, masks, keys, num_samples):
            self.seen += len(np.unique(images.reshape(len(images), -1), axis=0))
            return super().sample(images, masks, keys, num_samples)

    def interrupted(images):
        if len(cache) == 2:
            raise KeyboardInterrupt
        return pixels(images)

    options = {"seed": 1}
    cache = EvaluationCache(tmp_path, options)
    with pytest.raises(KeyboardInterrupt):
        breaking = Extractor("fid", interrupted, {})
        evaluate_with(FakeInpainter(), 7, 2, extractor=breaking, cache=cache)
    inpainter = Counting()
    again = EvaluationCache(tmp_path, options)
    assert len(again) == 2
    resumed = evaluate_with(inpainter, 7, 3, extractor=CLASSIFIER, cache=again)
    assert inpainter.seen == 5
    whole = evaluate_with(FakeInpainter(), 7, 3, extractor=CLASSIFIER)
    assert resumed[0] == whole[0]
    finished = evaluate_with(inpainter, 7, 3, extractor=CLASSIFIER, cache=again)
    assert inpainter.seen == 5 and finished[0] == whole[0]


def test_completions_equal_to_the_truth_are_counted_and_not_averaged():
    class Perfect(FakeInpainter):
        def sample(self, images, masks, keys, num_samples):
            return np.repeat(images[:, None], num_samples, axis=1)

    report, _ = evaluate_with(Perfect(), 2, num_samples=2)
    assert report["figures"]["samples"]["psnr"] == {"mean_of_k": None, "best_of_k": None}
    assert report["figures"]["equal_to_truth"]["samples"] == 4
    assert report["figures"]["samples"]["lpips"]["mean_of_k"] < 1e-12
    assert report["figures"]["diversity"]["lpips_out"] < 1e-12
    json.dumps(report, allow_nan=False)


def test_one_sample_has_no_diversity():
    report = evaluate(num_examples=1, num_samples=1)
    assert report["figures"]["diversity"] == dict.fromkeys(DIVERSITY)
    assert report["num_pairs"] == 0


@pytest.mark.parametrize(
    "changes, rule",
    [
        ({"num_samples": 0}, "at least 1"),
        ({"num_pairs": 4}, "1 ... 3"),
        ({"num_examples": 0}, "no pictures"),
    ],
)
def test_impossible_evaluations_are_refused(changes, rule):
    with pytest.raises(ValueError, match=rule):
        evaluate(**changes)


@pytest.mark.slow
def test_the_figures_do_not_depend_on_the_number_of_devices(networks):
    config = default.get_config(SIZE)
    config.model = TINY_MODEL
    params = jax.device_get(jax.jit(networks.init_generator)(jax.random.key(3)))
    devices = jax.devices()[:2]
    # 5 pictures in batches of 3: neither divides by 2, and the last batch is short.
    (two, _), (one, _) = (
        evaluate_with(Inpainter(config, params, 0, "", devices=spread), 5, 3)
        for spread in (devices, devices[:1])
    )
    for part in ("samples", "reconstruction", "diversity"):
        for name, value in one["figures"][part].items():
            assert two["figures"][part][name] == pytest.approx(value, rel=2e-3), (part, name)


def test_pictures_are_measured_on_every_device():
    model, used = FakeInpainter(), set()
    model.devices = jax.devices()[:2]

    def mean_colours(images):
        features = jax.numpy.asarray(images).mean((1, 2))
        used.update(features.devices())
        return features, None

    extractor = Extractor("fd", mean_colours, {})
    spread, _ = evaluate_with(model, 7, 3, extractor=extractor)
    assert used == set(model.devices)
    assert spread == evaluate_with(FakeInpainter(), 7, 3, extractor=extractor)[0]
