import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from uctgan_jax.avatars.dataset import render, sample_attributes
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import train_batches
from uctgan_jax.data.sources import CorruptDataError, open_source, split_folder
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


def test_avatars_to_train_on_are_drawn_when_they_are_asked_for(tmp_path):
    """A set to judge by is not a set to train on, and is not needed beside one."""
    options = dict(image_size=32, data_dir=tmp_path, avatars_examples=(4, 3, 2))
    assert len(open_source("avatars", split="test", **options)) == 2
    sets = tmp_path / "avatars"
    assert [folder.name for folder in sets.glob("32*")] == ["32_1_3_2"]
    assert len(open_source("avatars", split="train", **options)) == 4
    shutil.rmtree(sets / "32_1_3_2")
    assert len(open_source("avatars", split="test", **options)) == 2
    assert [folder.name for folder in sets.glob("32*")] == ["32_4_3_2"]


def test_names_need_not_be_utf8(tmp_path):
    for i in range(3):
        write_image(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9%d.png" % i)), picture(i))
    assert sorted(map(len, split_folder(tmp_path).values())) == [1, 1, 1]


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


def test_a_folder_names_what_it_leaves_out(tmp_path, caplog):
    for i in range(3):
        write_image(tmp_path / f"~{i}:.png", picture(i))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "loop").symlink_to(".")
    open_source(f"folder:{tmp_path}", split="train", image_size=32)
    assert "1 left out, not a picture by its ending: " in caplog.text
    assert "1 left out, a link to a folder that it lies in: " in caplog.text
    caplog.clear()
    for split in ("train", "val", "test"):
        write_image(tmp_path / split / "a.png", picture(0))
    open_source(f"folder:{tmp_path}", split="train", image_size=32)
    assert "5 left out, beside the folders of splits: " in caplog.text


@pytest.mark.parametrize("spec", ["folder:~nobody.here/x", "tfds:~nobody.here/x"])
def test_a_home_of_nobody_is_named(spec, tmp_path):
    with pytest.raises(ValueError, match="there is no user 'nobody.here'"):
        open_source(spec, split="train", image_size=32, data_dir=tmp_path)


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_explicit_folders_win(tmp_path, validation):
    for folder in ("train", validation, "test", "other"):
        for i in range(5):
            write_image(tmp_path / folder / "sub" / f"{i}.png", picture(i))
    splits = folder_splits(tmp_path)
    assert len(splits) == 15
    expected = {"train": "train", validation: "validation", "test": "test"}
    assert all(expected[name.split("/")[0]] == split for name, split in splits.items())


def test_splits_without_a_folder_come_out_of_train(tmp_path):
    for i in range(100):
        write_image(tmp_path / "train" / f"{i}.png", picture(i))
    write_image(tmp_path / "test" / "a.png", picture(0))
    splits = split_folder(tmp_path)
    assert splits["test"] == [tmp_path / "test" / "a.png"]
    assert 0 < len(splits["validation"]) < 15
    assert len(splits["train"]) + len(splits["validation"]) == 100


@pytest.mark.parametrize("count", [1, 3, 5, 20])
def test_a_small_folder_has_a_picture_in_every_split(tmp_path, count):
    for i in range(count):
        write_image(tmp_path / f"{i}.png", picture(i))
    splits = split_folder(tmp_path)
    assert splits["train"]
    if count == 1:
        return
    assert all(splits.values()) and len(splits["train"]) >= count - 4
    assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == count


def test_damaged_pictures_are_named_once_and_replaced_up_to_a_limit(tmp_path, caplog):
    for i in range(6):
        write_image(tmp_path / "train" / f"{i}.png", picture(i))
    for other in ("val", "test"):
        (tmp_path / other).mkdir()
    for i in (2, 3):
        (tmp_path / "train" / f"{i}.png").write_bytes(b"damaged")
    options = dict(split="train", image_size=32)
    source = open_source(f"folder:{tmp_path}", **options, max_corrupt=2)
    for _ in range(2):
        read = [int(source[i][0, 0, 0]) for i in range(6)]
        assert read == [0, 1, 4, 4, 4, 5]
    messages = [record.getMessage() for record in caplog.records]
    assert len([m for m in messages if "2.png" in m]) == 1
    assert len([m for m in messages if "3.png" in m]) == 1
    strict = open_source(f"folder:{tmp_path}", **options, max_corrupt=1)
    with pytest.raises(CorruptDataError, match=r"more than max_corrupt \(1\).*3.png"):
        [strict[i] for i in range(len(strict))]
    # It also comes through the pipeline's threads.
    batches = train_batches(strict, image_size=8, batch_size=4, masks=MaskOptions("box"),
                            flip=False, seed=0)  # fmt: skip
    with pytest.raises(CorruptDataError):
        for _ in range(20):
            next(batches)


# The image sets people compare on, with the names and shapes of their features in TFDS.
_SQUARE = tfds.features.Image(shape=(256, 256, 3))
_LABEL = tfds.features.ClassLabel(num_classes=3)
_TEXT = tfds.features.Text()
TFDS_SETS = {  # features, splits, how pictures are encoded
    "celeb_a_hq/256": ({"image": _SQUARE, "image/filename": _TEXT}, ("train",), "png"),
    "places365_small": (
        {"image": _SQUARE, "label": _LABEL, "filename": _TEXT},
        ("train", "validation", "test"),
        "jpeg",
    ),
    "imagenet2012": (
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": _LABEL,
            "file_name": _TEXT,
        },
        ("train", "validation"),
        "jpeg",
    ),
}


def build_tfds(name, data_dir, features, splits, encoding, count=40, **kwargs):
    """Writes a set with TFDS's own writer; picture i of a split is `picture(i)`, enlarged."""
    base, _, config = name.partition("/")

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("2.0.0")
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []
        code_path = Path(__file__)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples() for split in splits}

        def _generate_examples(self):
            for i in range(count):
                buffer = io.BytesIO()
                Image.fromarray(np.full((256, 256, 3), i, np.uint8)).save(buffer, encoding)
                buffer.seek(0)
                yield (
                    i,
                    {
                        key: buffer if key == "image" else (1 if key == "label" else f"{i}.jpg")
                        for key in features
                    },
                )

    Builder.name = base
    builder = Builder(data_dir=data_dir, **{"file_format": "array_record", **kwargs})
    builder.download_and_prepare()


@pytest.mark.parametrize("name", TFDS_SETS)
def test_tfds_sets(tmp_path, name):
    build_tfds(name, tmp_path, *TFDS_SETS[name])
    seen = []
    for split in ("train", "validation", "test"):
        source = open_source(f"tfds:{name}", split=split, image_size=64, data_dir=tmp_path)
        assert source.name == f"tfds:{name}" and source[0].shape == (256, 256, 3)
        seen.append([int(source[i][0, 0, 0]) for i in range(len(source))])
    if name == "celeb_a_hq/256":  # 90 %, 5 %, 5 % of its one split
        assert [len(values) for values in seen] == [36, 2, 2]
        assert sum(seen, []) == list(range(40))
    elif name == "imagenet2012":  # its test pictures are not public: half of validation
        assert seen == [list(range(40)), list(range(20)), list(range(20, 40))]
    else:
        assert seen == [list(range(40))] * 3


def test_a_damaged_record_is_named(tmp_path):
    build_tfds("places365_small", tmp_path, *TFDS_SETS["places365_small"], count=2)
    source = open_source("tfds:places365_small", split="test", image_size=64, data_dir=tmp_path)
    for record in (b"no protocol buffer", b""):
        source._records = [record] * 2
        with pytest.raises(CorruptDataError, match="record 0"):
            source[0]


def test_tfds_errors(tmp_path):
    features = TFDS_SETS["places365_small"][0]
    build_tfds("many/a", tmp_path, features, ("train",), "png", 1)
    with pytest.raises(ValueError, match="several configs: name one of a"):
        open_source("tfds:many", split="train", image_size=64, data_dir=tmp_path)
    build_tfds("labels", tmp_path, {"label": features["label"]}, ("train",), "png", 1)
    with pytest.raises(ValueError, match="no image feature among label"):
        open_source("tfds:labels", split="train", image_size=64, data_dir=tmp_path)


def test_errors(tmp_path):
    def opened(spec, split="train"):
        return open_source(spec, split=split, image_size=32, data_dir=tmp_path)

    with pytest.raises(ValueError, match='"avatars", "folder:PATH" or "tfds:NAME"'):
        opened("celeba")
    with pytest.raises(ValueError, match=r"must be .*\. Did you mean folder:/"):
        opened("/")
    with pytest.raises(ValueError, match="Unknown data source 'folder:'"):
        opened("folder:")
    with pytest.raises(ValueError, match="Unknown split 'val'"):
        opened("avatars", split="val")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opened(f"folder:{tmp_path}/nowhere")
    with pytest.raises(ValueError, match="No pictures for split 'train'"):
        opened(f"folder:{tmp_path}")
    with pytest.raises(
        FileNotFoundError, match="tfds build celeb_a_hq/256 --data_dir.*--manual_dir"
    ):
        opened("tfds:celeb_a_hq/256")
    with pytest.raises(FileNotFoundError, match="file_format=array_record.$"):
        opened("tfds:places365_small")
    with pytest.raises(ValueError, match=r"side \(48\)"):
        open_source("avatars", split="train", image_size=48, data_dir=tmp_path)
    assert not (tmp_path / "avatars").exists()
