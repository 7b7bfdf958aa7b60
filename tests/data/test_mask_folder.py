import itertools
import unicodedata

import numpy as np
import pytest

from uctgan_jax.data.mask_folder import MaskFolder, PairedMasks
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches, train_batches
from uctgan_jax.data.sources import FolderSource
from uctgan_jax.images import write_image


@pytest.fixture
def masks(tmp_path):
    """White holes in the left i tenths of mask i, at twice the size."""
    for i in range(11):
        mask = np.zeros((20, 20, 1), np.uint8)
        mask[:, : 2 * i] = 255
        write_image(tmp_path / "masks" / f"set {i % 2}" / f"{i:02d}.png", mask)
    return tmp_path / "masks"


def shares_of(folder):
    return [round(float(folder[i].mean()), 3) for i in range(len(folder))]


def test_masks_are_chosen_by_their_hole_share(masks):
    folder = MaskFolder(masks, image_size=10, hole_share=(0.2, 0.4))
    assert sorted(shares_of(folder)) == [0.2, 0.3, 0.4]
    mask = folder[0]
    assert mask.shape == (10, 10, 1) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert mask[:, 0].all() and not mask[:, -1].any()


def test_empty_and_full_masks_are_left_out(masks):
    folder = MaskFolder(masks, image_size=10, hole_share=(0.0, 1.0))
    assert sorted(shares_of(folder)) == [i / 10 for i in range(1, 10)]


def test_the_other_convention(masks):
    folder = MaskFolder(masks, image_size=10, hole_share=(0.2, 0.2), convention="black_is_hole")
    mask = folder[0]
    assert mask[:, 8:].all() and not mask[:, :8].any()


def test_a_set_that_looks_inverted_is_warned_about(tmp_path, caplog):
    for i in range(4):
        mask = np.full((10, 10, 1), 255, np.uint8)
        mask[3:6, 3:6] = 0
        write_image(tmp_path / f"{i}.png", mask)
    MaskFolder(tmp_path, image_size=10, hole_share=(0.0, 1.0))
    assert "look inverted" in caplog.text and "black_is_hole" in caplog.text
    caplog.clear()
    MaskFolder(tmp_path, image_size=10, hole_share=(0.0, 1.0), convention="black_is_hole")
    assert "inverted" not in caplog.text


def test_paired_masks_follow_their_pictures(masks, tmp_path):
    for i in range(1, 10):
        picture = np.full((20, 20, 3), i, np.uint8)
        picture[:, :2] = 200
        write_image(tmp_path / "pictures" / "test" / f"set {i % 2}" / f"{i:02d}.png", picture)
    (masks).rename(tmp_path / "test")
    (tmp_path / "masks").mkdir()
    (tmp_path / "test").rename(tmp_path / "masks" / "test")
    source = FolderSource(tmp_path / "pictures", split="test")
    paired = MaskOptions(f"paired:{tmp_path / 'masks'}")
    options = dict(image_size=10, masks=paired, batch_size=9, seed=0)
    (batch,) = eval_batches(source, **options, num_examples=9)
    for picture, mask in zip(batch["image"], batch["mask"], strict=True):
        assert mask.mean() == pytest.approx(picture[0, 5, 0] / 10)
    flips = 0
    for batch in itertools.islice(train_batches(source, **options, flip=True), 3):
        for picture, mask in zip(batch["image"], batch["mask"], strict=True):
            flipped = picture[0, 0, 0] != 200
            flips += flipped
            assert mask[0, -1 if flipped else 0, 0] == 1 and mask[0, 0 if flipped else -1, 0] == 0
    assert 0 < flips < 27


def test_the_picture_that_stands_in_for_a_damaged_one_has_its_own_mask(tmp_path):
    for i in range(3):
        write_image(tmp_path / "test" / f"{i}.png", np.full((10, 10, 3), 100 * i, np.uint8))
        mask = np.zeros((10, 10), np.uint8)
        mask[: i + 1] = 255
        write_image(tmp_path / "masks" / "test" / f"{i}.png", mask)
    (tmp_path / "test" / "1.png").write_bytes(b"damaged")
    source = FolderSource(tmp_path, split="test", max_corrupt=1)
    masks = MaskOptions(f"paired:{tmp_path / 'masks'}")
    options = dict(image_size=10, masks=masks, batch_size=3, seed=0, num_examples=3)
    (batch,) = eval_batches(source, **options)
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 200, 200]
    assert batch["mask"].mean((1, 2, 3)).round(3).tolist() == [0.1, 0.3, 0.3]


def test_accents_may_be_written_in_either_way(tmp_path):
    apart, together = (unicodedata.normalize(form, "Zoë") for form in ("NFD", "NFC"))
    write_image(tmp_path / "pictures" / "test" / f"{apart}.png", np.zeros((10, 10, 3), np.uint8))
    mask = np.zeros((10, 10), np.uint8)
    mask[:5] = 255
    write_image(tmp_path / "masks" / "test" / f"{together}.png", mask)
    source = FolderSource(tmp_path / "pictures", split="test")
    options = dict(image_size=10, batch_size=1, seed=0, num_examples=1)
    paired = MaskOptions(f"paired:{tmp_path / 'masks'}")
    (batch,) = eval_batches(source, masks=paired, **options)
    assert batch["mask"].mean() == 0.5


def test_a_folder_of_masks_in_the_pipeline(masks):
    class Grey:
        name = "grey"

        def __len__(self):
            return 200

        def __getitem__(self, i):
            return np.full((10, 10, 3), i, np.uint8)

    options = dict(image_size=10, batch_size=200, seed=0, num_examples=200)
    some = MaskOptions(f"folder:{masks}", hole_share=(0.3, 0.6))
    (batch,) = eval_batches(Grey(), masks=some, **options)
    shares = batch["mask"].mean((1, 2, 3)).round(3)
    assert set(shares.tolist()) == {0.3, 0.4, 0.5, 0.6}
    with pytest.raises(ValueError, match="pictures with names"):
        eval_batches(Grey(), masks=MaskOptions(f"paired:{masks}"), **options)


def test_paired_masks_may_end_in_mask_and_have_any_values(tmp_path):
    values = np.zeros((20, 20), np.uint8)
    values[:10] = 1
    write_image(tmp_path / "a_mask.png", values)
    colours = np.zeros((20, 20, 3), np.uint8)
    colours[:5], colours[5:10] = (64, 0, 0), (0, 128, 0)
    write_image(tmp_path / "b.png", colours)
    paired = PairedMasks(tmp_path, keys=["a", "b"], image_size=10)
    assert [paired[i].mean() for i in range(2)] == [0.5, 0.5]


@pytest.mark.parametrize(("value", "message"), [(0, "empty: no"), (255, "full: every")])
def test_a_paired_mask_without_a_hole_or_a_known_pixel_is_refused_at_once(
    masks, tmp_path, value, message
):
    write_image(tmp_path / "masks" / "flat.png", np.full((20, 20), value, np.uint8))
    with pytest.raises(ValueError, match=f"flat.png: the mask is {message} pixel of 10 x 10"):
        PairedMasks(masks, keys=["set 0/04", "flat"], image_size=10)
    speck = np.zeros((20, 20), np.uint8)
    speck[0, 0] = 255
    write_image(tmp_path / "masks" / "speck.png", speck)
    with pytest.raises(ValueError, match="speck.png: the mask is empty"):
        PairedMasks(masks, keys=["speck"], image_size=10)


def test_errors(masks, tmp_path):
    with pytest.raises(ValueError, match="0.000 to 1.000"):
        MaskFolder(masks, image_size=10, hole_share=(0.22, 0.28))
    with pytest.raises(FileNotFoundError, match="No mask files in .*nowhere"):
        MaskFolder(tmp_path / "nowhere", image_size=10, hole_share=(0.1, 0.2))
    with pytest.raises(FileNotFoundError, match="1 of 2 pictures have no mask.*'other/b'"):
        PairedMasks(masks, keys=["set 0/04", "other/b"], image_size=10)
    write_image(masks / "set 0" / "04.bmp.png", np.zeros((4, 4), np.uint8))
    (masks / "set 0" / "04.bmp.png").rename(masks / "set 0" / "04.webp")
    with pytest.raises(ValueError, match="04.png and .*04.webp have the same name"):
        PairedMasks(masks, keys=["set 0/04"], image_size=10)
    with pytest.raises(ValueError, match="Unknown mask convention"):
        MaskFolder(masks, image_size=10, hole_share=(0.1, 0.2), convention="grey")
