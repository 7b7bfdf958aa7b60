import numpy as np
import pytest

from uctgan_jax.evaluation.compare import CompletionsFolder, export_inputs
from uctgan_jax.images import read_image, read_mask, write_image

SIZE, K = 8, 2


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    mask = np.zeros((3, SIZE, SIZE, 1), np.uint8)
    for i in range(3):
        mask[i, 2 : 4 + i, 3:6] = 1
    return {
        "image": rng.integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8),
        "mask": mask,
        "index": np.arange(3),
    }


@pytest.fixture
def completions():
    return np.random.default_rng(1).integers(0, 256, (3, K, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path, batch, completions):
    """Completions beside the inputs, as a program leaves them that writes where it reads."""
    export_inputs([batch], tmp_path, num_examples=3)
    for i, row in enumerate(completions):
        for k, completion in enumerate(row):
            write_image(tmp_path / f"00000{i}_00{k}.png", completion)
    return tmp_path


def open_folder(folder, num_examples=3, num_samples=K, image_size=SIZE):
    return CompletionsFolder(
        folder, num_examples=num_examples, num_samples=num_samples, image_size=image_size
    )


def test_inputs_are_masked_and_come_with_mask_and_truth(tmp_path, batch):
    export_inputs([batch], tmp_path / "new", num_examples=3)
    assert len(list((tmp_path / "new").iterdir())) == 9
    for i, (image, mask) in enumerate(zip(batch["image"], batch["mask"], strict=True)):
        name = tmp_path / "new" / f"00000{i}"
        np.testing.assert_array_equal(read_image(f"{name}_truth.png"), image)
        np.testing.assert_array_equal(read_mask(f"{name}_mask.png"), mask)
        masked = read_image(f"{name}.png")
        assert (masked[mask[..., 0] == 1] == 128).all()
        np.testing.assert_array_equal(masked[mask[..., 0] == 0], image[mask[..., 0] == 0])


def test_completions_are_read_as_they_are(folder, batch, completions):
    index = np.array([2, 0, 2])
    read = open_folder(folder).complete(batch["image"], batch["mask"], index)
    np.testing.assert_array_equal(read, completions[index])


def test_the_digest_follows_the_files_in_use(folder, completions):
    before = open_folder(folder).digest
    first_two = open_folder(folder, num_examples=2).digest
    write_image(folder / "000002_001.png", completions[0, 0])
    assert open_folder(folder).digest != before
    assert open_folder(folder, num_examples=2).digest == first_two


def test_missing_pictures_are_named(folder):
    for path in folder.glob("000001_0*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no completion of 1 of 3 pictures: 000001\."):
        open_folder(folder)
    with pytest.raises(FileNotFoundError, match=r"8 of 10 pictures: .*000006 \.\.\."):
        open_folder(folder, num_examples=10)
    with pytest.raises(FileNotFoundError, match="must be a folder"):
        open_folder(folder / "missing")


@pytest.mark.parametrize("num_samples", [1, 3])
def test_another_count_is_refused(folder, num_samples):
    there = "has 2 completion.s. of 000000, 000000_000.png to 000000_001.png"
    rule = f"{there}, but must have {num_samples}: 000000_000.png to 000000_00"
    with pytest.raises(ValueError, match=rule):
        open_folder(folder, num_samples=num_samples)


def test_a_gap_in_the_numbers_is_refused(folder):
    (folder / "000001_001.png").rename(folder / "000001_002.png")
    with pytest.raises(ValueError, match="must have 2: 000001_000.png to 000001_001.png"):
        open_folder(folder)


def test_another_size_and_no_picture_are_refused(folder):
    with pytest.raises(ValueError, match="000000_000.png is 8 x 8 .* must be 16 x 16"):
        open_folder(folder, image_size=16)
    (folder / "000002_000.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="000002_000.png: not a picture"):
        open_folder(folder)
