import numpy as np
import pytest

from uctgan_jax.avatars.dataset import ATTRIBUTES, FACE_ATTRIBUTES, HATS, render, sample_attributes
from uctgan_jax.avatars.posterior import FACE_WINDOW, Posterior
from uctgan_jax.data.masks import MaskOptions, draw_mask

SIZE = 32


@pytest.fixture(scope="module")
def mask():
    window = MaskOptions("window", region=FACE_WINDOW)
    return draw_mask(np.random.default_rng(0), window, image_size=SIZE)


def portrait(**changes):
    """Attributes of a portrait, changed by the names of values."""
    attributes = {**sample_attributes("validation", 3), "facial_hair": 0}
    named = {"top": "short_flat", "accessory": "none", "clothing": "hoodie"} | changes
    return attributes | {name: ATTRIBUTES[name].index(value) for name, value in named.items()}


@pytest.fixture(scope="module")
def posterior(mask):
    return Posterior(portrait(), mask)


@pytest.fixture(scope="module")
def draws(posterior):
    return posterior.sample(np.random.default_rng(0), 24)


def test_the_face_is_free_and_the_rest_is_given(posterior):
    for name, values in ATTRIBUTES.items():
        support = posterior.support[name]
        if name == "accessory":
            assert [values[v] for v in support] == [v for v in values if v != "eyepatch"]
        elif name in FACE_ATTRIBUTES or name == "hat_color":  # nothing of a hat shows
            assert support == tuple(range(len(values)))
        else:
            assert support == (posterior.attributes[name],)


def test_the_strap_of_an_eyepatch_gives_it_away(mask):
    attributes = portrait(accessory="eyepatch")
    assert Posterior(attributes, mask).support["accessory"] == (attributes["accessory"],)


def test_draws_keep_the_known_pixels_and_differ_in_the_hole(posterior, draws, mask):
    known = mask[..., 0] == 0
    np.testing.assert_array_equal(
        draws[:, known], np.broadcast_to(posterior.image[known], draws[:, known].shape)
    )
    assert len({draw.tobytes() for draw in draws}) == len(draws)


@pytest.mark.parametrize("top", ["none", "dreads", "gladiator_helmet"])
def test_clean_renderings_are_read_back_exactly(mask, top):
    """For tops that stack hair, beard and glasses in different orders and places."""
    assert top in HATS or top in ATTRIBUTES["top"]
    posterior = Posterior(portrait(top=top, skin="brown"), mask)
    draws = posterior.sample(np.random.default_rng(1), 4)
    reading = posterior.read(draws)
    hole = draws[:, mask[..., 0] == 1]
    for draw, mode, distance in zip(hole, reading.mode, reading.distance, strict=True):
        read = np.frombuffer(mode, np.uint8).reshape(draw.shape).astype(int)
        assert np.abs(read - draw).max() <= 3  # rounding of the layers; another value is far more
        assert distance < 0.002
    if reading.skin is not None:
        np.testing.assert_array_equal(reading.skin, ATTRIBUTES["skin"].index("brown"))


def test_attributes_that_show_are_read_back_by_name(posterior):
    faces = [
        portrait(eyes=eyes, mouth=mouth, facial_hair=hair, facial_hair_color=color)
        for eyes, mouth, hair, color in [
            ("heart", "tongue", "none", "red"),
            ("closed", "smile", "moustache_fancy", "platinum"),
        ]
    ]
    reading = posterior.read(np.stack([render(face, SIZE) for face in faces]))
    for name in ("eyes", "eyebrows", "nose", "mouth", "facial_hair", "accessory"):
        for weights, face in zip(reading.weights[name], faces, strict=True):
            assert weights[face[name]] == pytest.approx(1), name
    # A colour that nothing has is every colour alike.
    np.testing.assert_allclose(reading.weights["facial_hair_color"][0], 0.1)
    assert reading.weights["facial_hair_color"][1][faces[1]["facial_hair_color"]] == 1


def test_what_glasses_hide_stays_open(mask):
    """Eyes that look the same behind dark glasses share the weight."""
    eyes = range(len(ATTRIBUTES["eyes"]))
    images = np.stack([render(portrait(accessory="kurt") | {"eyes": v}, SIZE) for v in eyes])
    weights = Posterior(portrait(accessory="kurt"), mask).read(images).weights["eyes"]
    squares = ((images[:, None].astype(int) - images) ** 2).sum((2, 3, 4))
    assert (squares == 0).sum() > len(eyes)  # some are the same picture
    for shown, weight in zip(squares, weights, strict=True):
        np.testing.assert_allclose(weight[shown == 0], weight[shown == 0][0])
        assert (weight[shown == 0] > 0).all()
        assert (weight[shown > 30] == 0).all()


def test_no_other_draw_is_nearer_than_the_nearest(posterior, draws):
    """Against renderings of the support, for pictures that are not in it."""
    noise = np.random.default_rng(2).normal(0, 30, draws[:2].shape)
    noisy = np.clip(draws[:2] + noise, 0, 255).astype(np.uint8)
    hole = posterior.mask[..., 0] == 1
    others = posterior.sample(np.random.default_rng(3), 100)[:, hole] / 255
    for picture, distance in zip(noisy, posterior.read(noisy).distance, strict=True):
        distances = np.sqrt(((others - picture[hole] / 255) ** 2).mean((1, 2)))
        assert distance <= distances.min() + 1e-3  # layers round otherwise than whole renderings


def test_the_skin_is_read_from_the_hole(posterior, draws, mask):
    assert (posterior.read(draws).skin == posterior.attributes["skin"]).all()
    other = {**posterior.attributes, "skin": (posterior.attributes["skin"] + 3) % 7}
    painted = np.where(mask == 1, render(other, SIZE), posterior.image)
    reading = posterior.read(painted[None])
    assert reading.skin[0] == other["skin"]
    assert reading.distance[0] > 0.05


def test_other_attributes_that_the_hole_leaves_open_are_part_of_the_support(mask):
    """Big hair hides what tells these two collars apart, at this size, but for pixels inside."""
    attributes = {**sample_attributes("test", 76)}
    posterior = Posterior(attributes, mask)
    open_names = [ATTRIBUTES["clothing"][v] for v in posterior.support["clothing"]]
    assert open_names == ["blazer_shirt", "blazer_sweater"]
    draws = posterior.sample(np.random.default_rng(0), 12)
    assert (posterior.read(draws).distance < 0.002).all()


def test_a_hole_through_a_beard_is_refused():
    mask = np.zeros((SIZE, SIZE, 1), np.uint8)
    mask[8:18, 8:24] = 1
    attributes = portrait(facial_hair="beard_magestic")
    posterior = Posterior(attributes, mask)
    assert posterior.support["facial_hair"] == (attributes["facial_hair"],)
    posterior.support["facial_hair"] = tuple(range(8))  # what the known part of the beard rules out
    with pytest.raises(ValueError, match="in part"):
        posterior.sample(np.random.default_rng(0), 8)
