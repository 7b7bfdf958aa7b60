"""`faces64` on photographs that packages carry: as good as its card says, and on any picture."""

import cv2
import jax
import numpy as np
import pytest
import skimage.data

from uctgan_jax import Inpainter
from uctgan_jax.evaluation.metrics.lpips import lpips
from uctgan_jax.images import read_image, resize
from uctgan_jax.preprocess import normalize
from uctgan_jax.web.examples import PORTRAITS

HOLE = np.s_[16:48, 16:48]


@pytest.fixture(scope="module")
def model():
    return Inpainter.load("faces64")


@pytest.fixture(scope="module")
def portraits():
    return np.stack([read_image(path) for path in sorted(PORTRAITS.glob("*.png"))])


@pytest.fixture(scope="module")
def masks(portraits):
    masks = np.zeros((*portraits.shape[:3], 1), np.uint8)
    masks[:, *HOLE] = 1
    return masks


@pytest.fixture(scope="module")
def completions(model, portraits, masks):
    return model.sample(portraits, masks, jax.random.split(jax.random.key(0), len(portraits)), 4)


def distances(images, references):
    """LPIPS of pictures in levels of 255, which are doubled if they are under 64 px."""
    both = [normalize(np.asarray(x)) for x in (images, references)]
    if images.shape[1] < 64:
        both = [x.repeat(2, axis=1).repeat(2, axis=2) for x in both]
    return np.asarray(lpips(*both))


def test_known_pixels_stay(portraits, masks, completions):
    known = np.broadcast_to(masks[:, None] == 0, completions.shape)
    np.testing.assert_array_equal(
        completions[known], np.broadcast_to(portraits[:, None], completions.shape)[known]
    )


def test_completions_are_near_the_truth_and_differ(portraits, completions):
    """The mean colour is at 0.24, another person's face at 0.15; collapse would not differ."""
    to_truth = [distances(completions[:, k], portraits).mean() for k in range(4)]
    assert np.mean(to_truth) < 0.045
    holes = completions[:, :, *HOLE]
    between = [distances(holes[:, k], holes[:, k - 1]).mean() for k in range(4)]
    assert np.mean(between) > 0.03


def test_skin_fits_the_skin_around_it(portraits, completions):
    """The mean colour of the hole is that of the face, of light and of dark ones."""
    means = completions[:, :, *HOLE].mean(axis=(1, 2, 3))
    truth = portraits[:, *HOLE].mean(axis=(1, 2))
    assert np.abs(means - truth).mean() < 20


def test_the_astronaut_gets_another_face(model):
    """The part of scikit-image's astronaut that a portrait of the training set would show."""
    picture = skimage.data.astronaut()[57:199, 155:297]
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[35:106, 35:106] = 1
    completions = model.complete(picture, mask, num_samples=3).images
    known = mask == 0
    for completion in completions:
        np.testing.assert_array_equal(completion[known], picture[known])
    # Skin again, and no two alike.
    painted = completions[:, mask == 1].astype(float)
    assert np.abs(painted.mean(axis=(0, 1)) - picture[mask == 1].mean(axis=0)).max() < 35
    assert np.abs(painted[0] - painted[1]).mean() > 2


@pytest.mark.parametrize(
    ("hole", "most"),
    [
        (np.s_[86:172, 186:262], 0.10),  # the face
        (np.s_[136:156, 202:246], 0.15),  # the mouth
        (np.s_[90:112, 196:256], 0.14),  # both eyes
    ],
)
def test_the_astronaut_in_her_whole_picture(model, hole, most):
    """LPIPS of what was hidden, with its surroundings; OpenCV's Telea is the floor.

    The model alone finds out at what scale and where in the face the hole is. More noise makes
    completions differ more.
    """
    picture = skimage.data.astronaut()
    mask = np.zeros(picture.shape[:2], np.uint8)
    mask[hole] = 1
    completions, varied = (
        model.complete(picture, mask, num_samples=8, temperature=temperature).images
        for temperature in (1.0, 2.0)
    )
    known = mask == 0
    for completion in completions:
        np.testing.assert_array_equal(completion[known], picture[known])

    (top, bottom), (left, right) = ((side.start, side.stop) for side in hole)
    half = max(bottom - top, right - left) // 2 + 8
    y, x = (top + bottom) // 2, (left + right) // 2
    seen = np.s_[y - half : y + half, x - half : x + half]
    telea = cv2.inpaint(picture, mask, 5, cv2.INPAINT_TELEA)
    truth, telea, crops, varied = (
        np.stack([resize(each[seen], 64, 64) for each in pictures])
        for pictures in ([picture], [telea], completions, varied)
    )
    assert distances(crops, np.repeat(truth, 8, axis=0)).mean() < min(most, distances(telea, truth))
    between, between_varied = (
        distances(each, np.roll(each, 1, axis=0)).mean() for each in (crops, varied)
    )
    assert between > 0.004 and between_varied > max(0.03, 2 * between)
