"""Which mask belongs to which picture."""

import numpy as np

from uctgan_jax.files import read_input
from uctgan_jax.images import write_image
from uctgan_jax.inpainting.pairs import pair_files


def test_names_that_only_differ_in_how_accents_are_stored_are_a_pair(tmp_path):
    write_image(tmp_path / "images" / "caf\u00e9.png", np.zeros((9, 9), np.uint8))
    write_image(tmp_path / "masks" / "cafe\u0301.png", np.zeros((9, 9), np.uint8))
    (pair,) = pair_files(tmp_path / "images", tmp_path / "masks", tmp_path / "out")
    assert pair.name == "caf\u00e9" and pair.mask is not None


def found(pairs):
    return {pair.name: pair.mask and pair.mask.name for pair in pairs}


def test_masks_may_be_called_after_their_pictures_beside_them_or_elsewhere(tmp_path):
    blank = np.zeros((9, 9), np.uint8)
    images, masks, out = (tmp_path / name for name in ("images", "masks", "out"))
    for name in ("a", "a_mask", "more/b", "more/b_mask", "lonely", "face_mask"):
        write_image(images / f"{name}.png", blank)
    beside = {"a": "a_mask.png", "more/b": "b_mask.png", "lonely": None, "face_mask": None}
    assert found(pair_files(images, None, out)) == beside
    assert found(pair_files(images, images, out)) == beside
    for name in ("a_mask", "more/b", "c"):
        write_image(masks / f"{name}.png", blank)
    pairs = pair_files(images, masks, out)
    assert found(pairs) == {
        "a": "a_mask.png",
        "a_mask": "a_mask.png",
        "more/b": "b.png",
        "more/b_mask": None,
        "lonely": None,
        "face_mask": None,
    }
    assert [(item.path.name, item.reason) for item in pairs.left_out] == [
        ("c.png", "a mask of no picture")
    ]
    one = read_input(images / "a_mask.png")
    pairs = pair_files(images, one, out)
    assert {pair.mask for pair in pairs} == {one} and len(pairs) == 5
    assert [item.reason for item in pairs.left_out] == ["the mask itself"]
