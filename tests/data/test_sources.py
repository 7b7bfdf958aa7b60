import numpy as np
import pytest

from uctgan_jax.data.avatars import render, sample_attributes
from uctgan_jax.data.sources import open_source
from uctgan_jax.images import write_image


def picture(value: int) -> np.ndarray:
    return np.full((6, 4, 3), value, np.uint8)


def folder_splits(path):
    splits = {}
    for split in ("train", "validation", "test"):
        source = open_source(f"folder:{path}", split=split, image_size=32)
        splits |= {file.relative_to(path).as_posix(): split for file in source.paths}
    return splits


def test_avatars_are_built_on_first_use(tmp_path):
    for _ in range(2):
        source = open_source("avatars", split="validation", image_size=32, data_dir=tmp_path,
                             avatars_examples=(4, 3, 2))  # fmt: skip
        assert len(source) == 3 and source.name == "avatars"
        np.testing.assert_array_equal(source[2], render(sample_attributes("validation", 2), 32))


def test_folder_split_is_disjoint_nested_and_stable_when_files_are_added(tmp_path):
    for i in range(150):
        write_image(tmp_path / f"class {i % 3}" / "deep" / f"写真{i}.png", picture(i))
    before = folder_splits(tmp_path)
    assert len(before) == 150
    counts = {split: list(before.values()).count(split) for split in set(before.values())}
    assert 120 < counts["train"] < 145 and counts["validation"] > 0 and counts["test"] > 0
    for i in range(50):
        write_image(tmp_path / "class 0" / "deep" / f"an earlier name {i}.png", picture(i))
    after = folder_splits(tmp_path)
    assert len(after) == 200 and before.items() <= after.items()


def test_folder_reads_its_pictures_and_ignores_other_files(tmp_path):
    for i in range(40):
        write_image(tmp_path / f"{i:02d}.PNG", picture(i))
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no picture")
    write_image(tmp_path / ".cache" / "thumb.png", picture(0))
    source = open_source(f"folder:{tmp_path}", split="train", image_size=32)
    assert all(file.suffix == ".PNG" for file in source.paths)
    for i, file in enumerate(source.paths):
        np.testing.assert_array_equal(source[i], picture(int(file.stem)))


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_explicit_folders_win(tmp_path, validation):
    for folder in ("train", validation, "test", "other"):
        for i in range(5):
            write_image(tmp_path / folder / "sub" / f"{i}.png", picture(i))
    splits = folder_splits(tmp_path)
    assert len(splits) == 15
    expected = {"train": "train", validation: "validation", "test": "test"}
    assert all(expected[name.split("/")[0]] == split for name, split in splits.items())


def test_errors(tmp_path):
    def opened(spec, split="train"):
        return open_source(spec, split=split, image_size=32, data_dir=tmp_path)

    with pytest.raises(ValueError, match='"avatars", "folder:PATH" or "tfds:NAME"'):
        opened("celeba")
    with pytest.raises(ValueError, match="Unknown data source 'folder:'"):
        opened("folder:")
    with pytest.raises(ValueError, match="Unknown split 'val'"):
        opened("avatars", split="val")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opened(f"folder:{tmp_path}/nowhere")
    with pytest.raises(ValueError, match="No pictures for split 'train'"):
        opened(f"folder:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="tfds build celeb_a_hq/256 --data_dir"):
        opened("tfds:celeb_a_hq/256")
    with pytest.raises(ValueError, match=r"side \(48\)"):
        open_source("avatars", split="train", image_size=48, data_dir=tmp_path)
    assert not (tmp_path / "avatars").exists()
