import numpy as np
import pytest

from uctgan_jax.configs import default
from uctgan_jax.data.preview import preview
from uctgan_jax.images import write_image


def test_preview_shows_what_training_sees(tmp_path):
    for i in range(8):
        write_image(tmp_path / "train" / f"{i}.png", np.full((9, 9, 3), (200, 0, 10 * i), np.uint8))
    config = default.get_config(32)
    config.data.source = f"folder:{tmp_path}"
    sheet = preview(config, 4)
    pitch, head = 96 + 6, sheet.shape[0] - 2 * (96 + 6)
    assert sheet.shape == (head + 2 * pitch, 8 * pitch + 6, 3)
    middles = sheet[head + 48, 6 + 48 :: pitch]  # picture, with hole, mask, instance; twice
    assert (middles[[0, 4], :2] == (200, 0)).all() and (middles[[3, 7], :2] == (200, 0)).all()
    assert (middles[[1, 2, 5, 6]] == 255).all()
    corners = sheet[head + 3, 6 + 3 :: pitch]  # known pixels
    assert (corners[[1, 5]] == corners[[0, 4]]).all() and (corners[[2, 6]] == 0).all()
    assert (corners[0] != corners[3]).any()


def test_one_example_and_errors(tmp_path):
    write_image(tmp_path / "train" / "a.png", np.zeros((9, 9, 3), np.uint8))
    config = default.get_config(32)
    config.data.source = f"folder:{tmp_path}"
    assert preview(config, 1).shape[1] == 4 * (96 + 6) + 6
    config.mask.kind = "star"
    with pytest.raises(ValueError, match="Unknown mask kind"):
        preview(config, 1)
