"""Animated GIFs of walks."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from uctgan_jax.inpainting.animation import write_walk


@pytest.fixture
def frames():
    """A hole that goes from black to white in a picture of many colours."""
    frames = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), np.uint8), 5, 0)
    frames[:, 8:16, 8:24] = np.linspace(0, 255, 5).astype(np.uint8)[:, None, None, None]
    return frames


def test_there_and_back_with_a_pause_at_each_end(tmp_path, frames):
    write_walk(tmp_path / "walk.gif", frames)
    assert [path.name for path in tmp_path.iterdir()] == ["walk.gif"]
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.info["loop"] == 0
        shown, durations = [], []
        for frame in ImageSequence.Iterator(gif):
            shown.append(np.asarray(frame.convert("RGB")))
            durations.append(frame.info["duration"])
    order = [0, 1, 2, 3, 4, 3, 2, 1]
    assert len(shown) == len(order)
    assert durations == [640, 80, 80, 80, 640, 80, 80, 80]
    for picture, number in zip(shown, order, strict=True):
        hole = picture[8:16, 8:24].astype(int)
        assert abs(hole.mean() - frames[number, 8, 8, 0]) < 12
        np.testing.assert_array_equal(picture[:8], shown[0][:8])  # no flicker
        assert np.abs(picture.astype(int) - frames[number]).mean() < 25


def test_two_frames(tmp_path, frames):
    write_walk(tmp_path / "walk.gif", frames[[0, 4]])
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.n_frames == 2


@pytest.mark.parametrize("bad", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3))])
def test_what_is_no_walk_is_refused(tmp_path, bad):
    with pytest.raises(ValueError, match=r"must be uint8 \[2 ..., H, W, 3\]"):
        write_walk(tmp_path / "walk.gif", bad)
    assert not list(tmp_path.iterdir())
