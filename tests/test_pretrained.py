"""The models that come with the package: sound, small, and good at what they are for."""

import jax
import numpy as np
import pytest

from uctgan_jax import Inpainter, bundled_models
from uctgan_jax.avatars.dataset import render, sample_attributes
from uctgan_jax.avatars.posterior import FACE_WINDOW
from uctgan_jax.config import check_run_fields
from uctgan_jax.configs import prior as prior_config
from uctgan_jax.data.masks import MaskOptions, check_mask_options, draw_mask
from uctgan_jax.prior.training import model_with_prior
from uctgan_jax.saved_models import PRETRAINED, read_model


def test_each_has_its_card_and_is_small():
    assert bundled_models() == ["avatars32", "avatars64", "faces64"]
    for name in bundled_models():
        files = {path.name: path.stat().st_size for path in (PRETRAINED / name).iterdir()}
        assert set(files) == {"README.md", "model.json", "weights.npz"}
        assert sum(files.values()) <= 12 * 2**20


def test_a_prior_can_be_trained_for_each():
    """Their configs have all that `train_prior` takes from a model's."""
    for name in bundled_models():
        _, config, _, digest = read_model(name)
        config = model_with_prior(prior_config.get_config(), config, digest)
        check_run_fields(config)
        check_mask_options(MaskOptions(**config.mask), image_size=config.image_size)
        source = "folder:faces128" if name == "faces64" else "avatars"
        assert config.data.source == source and len(config.data.avatars_examples) == 3
        assert config.model_digest == digest and config.prior.width == 256


@pytest.fixture(
    scope="module",
    params=["avatars32", pytest.param("avatars64", marks=pytest.mark.slow)],
)
def model(request):
    return Inpainter.load(request.param)


@pytest.fixture(scope="module")
def portraits(model):
    """16 portraits of the test split with their faces hidden."""
    size = model.image_size
    images = np.stack([render(sample_attributes("test", i), size) for i in range(16)])
    options = MaskOptions("window", region=FACE_WINDOW)
    mask = draw_mask(np.random.default_rng(0), options, image_size=size)
    return images, np.repeat(mask[None], len(images), axis=0)


def hole_error(a, b, masks):
    """Root mean square difference over the hole, levels of 255."""
    return np.sqrt(np.square(a.astype(float) - b)[np.broadcast_to(masks, a.shape) == 1].mean())


# Levels of 255, a little above what each reaches.
OWN_ERRORS = {32: 6, 64: 7}


def test_codes_hold_the_face(model, portraits):
    images, masks = portraits
    own = hole_error(model.reconstruct(images, masks), images, masks)
    codes = model.project(images[::-1], masks[0])
    others = model.complete_with(images, masks, codes[:, None])[:, 0]
    assert own < OWN_ERRORS[model.image_size]
    assert own < 0.25 * hole_error(others, images, masks)


def test_completions_differ_as_faces_do(model, portraits):
    images, masks = portraits
    keys = jax.random.split(jax.random.key(0), len(images))
    first, second = np.moveaxis(model.sample(images, masks, keys, 2), 1, 0)
    # Two portraits of the same known pixels differ by 50 to 60 levels, collapse would be 0.
    assert 35 < hole_error(first, second, masks) < 90
    known = np.broadcast_to(masks, images.shape) == 0
    np.testing.assert_array_equal(first[known], images[known])
