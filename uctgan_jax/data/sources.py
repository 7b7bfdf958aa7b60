"""Where pictures come from: `open_source("avatars" | "folder:PATH" | "tfds:NAME")`.

A source is a sequence of whole pictures, uint8 RGB [H, W, 3] of any size, for one split. Opening
one is cheap and tells what is wrong with a specification; only `avatars` may work for a while, when
it draws its pictures for the first time.
"""

import hashlib
import os
import unicodedata
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow_datasets as tfds

from uctgan_jax.data.avatars import DEFAULT_EXAMPLES, prepared_avatars
from uctgan_jax.images import read_image

SPLITS = ("train", "validation", "test")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

# Shares of a folder without train/ validation/ test/ that go to each split, in percent.
_FOLDER_PERCENT = {"train": 90, "validation": 5, "test": 5}
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
# Where a TFDS set lacks a split: a part of another, which keeps the splits disjoint when it can.
_TFDS_FALLBACK = {
    ("train",): {
        "train": "train[:90%]", "validation": "train[90%:95%]", "test": "train[95%:]",
    },
    ("train", "validation"): {
        "train": "train", "validation": "validation[:50%]", "test": "validation[50%:]",
    },
    ("test", "train"): {
        "train": "train[:95%]", "validation": "train[95%:]", "test": "test",
    },
}  # fmt: skip


class Source(Protocol):
    """A sequence of pictures, uint8 RGB [H, W, 3]."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> np.ndarray: ...


def open_source(
    spec: str,
    *,
    split: str,
    image_size: int,
    data_dir: str | Path | None = None,
    avatars_examples: tuple[int, int, int] = DEFAULT_EXAMPLES,
) -> Source:
    """Open the pictures of one split.

    Args:
      spec: "avatars"; "folder:PATH" (see `FolderSource`); "tfds:NAME", "tfds:NAME/CONFIG" or
        "tfds:NAME/CONFIG:VERSION" (see `TfdsSource`).
      split: "train", "validation" or "test".
      image_size: the side that avatars are drawn at; others come whole.
      data_dir: the TFDS data folder; default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      avatars_examples: how many avatars in train, validation and test.

    Raises: ValueError for an unknown form or split, or a source without pictures;
      FileNotFoundError for a missing folder or a TFDS set that is not prepared.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}: must be one of {', '.join(SPLITS)}.")
    data_dir = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    data_dir = data_dir.expanduser()
    kind, _, argument = spec.partition(":")
    if spec == "avatars":
        builder = prepared_avatars(image_size, data_dir=data_dir, examples=avatars_examples)
        return TfdsSource(builder, split=split, name="avatars")
    if kind == "folder" and argument:
        return FolderSource(argument, split=split)
    if kind == "tfds" and argument:
        return TfdsSource(_prepared_tfds(argument, data_dir), split=split, name=spec)
    raise ValueError(
        f'Unknown data source {spec!r}: must be "avatars", "folder:PATH" or "tfds:NAME".'
    )


class FolderSource:
    """All pictures under a folder, at any depth; hidden files and folders are ignored.

    If there is a folder `train` (or `val`, `validation`, `test`) directly inside, each split is its
    folder. Otherwise a picture's split follows from a hash of its path relative to the folder: 90 %
    train, 5 % validation, 5 % test; adding files never moves another file to another split.
    """

    def __init__(self, path: str | Path, *, split: str):
        """Raises: FileNotFoundError for no such folder, ValueError for a split without pictures."""
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise FileNotFoundError(f"Picture folder {str(path)!r} does not exist.")
        self.name = f"folder:{path}"
        explicit = {
            name: [folder / child for child in children if (folder / child).is_dir()]
            for name, children in _SPLIT_FOLDERS.items()
        }
        if any(explicit.values()):
            self.paths = [file for child in explicit[split] for file in _pictures_under(child)]
            names = [child.name for children in explicit.values() for child in children]
            how = f"its folders are {', '.join(names)}"
        else:
            files = _pictures_under(folder)
            self.paths = [
                file for file in files if _hashed_split(file.relative_to(folder)) == split
            ]
            how = f"{len(files)} pictures in all, {_FOLDER_PERCENT[split]} % of which go there"
        if not self.paths:
            raise ValueError(
                f"No pictures for split {split!r} in {str(path)!r} ({how}; "
                f"known endings: {' '.join(SUFFIXES)})."
            )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> np.ndarray:
        return read_image(self.paths[i])


def _pictures_under(folder: Path) -> list[Path]:
    """Sorted by relative path, so that the order is the same on every machine."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(root, name)
            for name in files
            if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())


def _hashed_split(relative: Path) -> str:
    # Some file systems decompose accents: the same name must hash the same everywhere.
    name = unicodedata.normalize("NFC", relative.as_posix())
    percent = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 100
    for split, share in _FOLDER_PERCENT.items():
        if percent < share:
            return split
        percent -= share
    raise AssertionError("the shares add up to 100")


class TfdsSource:
    """The pictures of a prepared TFDS set in ArrayRecord files, read without TensorFlow.

    A set with only some of the three splits is divided: see `_TFDS_FALLBACK`.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, *, split: str, name: str):
        """Raises: ValueError for a set without pictures, or in another file format."""
        self.name = name
        if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
            raise ValueError(
                f"{name}: stored as {builder.info.file_format.value}, must be array_record. "
                "Convert it (needs TensorFlow): tfds convert_format "
                f"--dataset_dir={builder.data_dir} --out_file_format=array_record --out_path=DIR"
            )
        images = [
            key
            for key, feature in builder.info.features.items()
            if isinstance(feature, tfds.features.Image)
        ]
        if not images:
            raise ValueError(f"{name}: no image feature among {', '.join(builder.info.features)}.")
        self._key = "image" if "image" in images else images[0]
        present = tuple(sorted(set(builder.info.splits) & set(SPLITS)))
        if split not in present:
            if present not in _TFDS_FALLBACK:
                raise ValueError(f"{name}: no split {split!r} among {', '.join(present)}.")
        expression = _TFDS_FALLBACK.get(present, {}).get(split, split)
        # Parsing the picture alone, without labels, is several times faster; and it is left
        # encoded, as TFDS would need TensorFlow to decode it.
        self._features = tfds.features.FeaturesDict({self._key: builder.info.features[self._key]})
        self._decoders = {self._key: tfds.decode.SkipDecoding()}
        self._records = builder.as_data_source(
            split=expression, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        if len(self._records) == 0:
            raise ValueError(f"{name}: split {split!r} ({expression}) is empty.")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, i: int) -> np.ndarray:
        record = self._records[i]
        example = self._features.deserialize_example_np(record, decoders=self._decoders)
        return read_image(example[self._key])


def _prepared_tfds(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """The set NAME[/CONFIG][:VERSION] as it lies on disk: neither its code nor TensorFlow."""
    path, _, version = name.partition(":")
    folder = data_dir / path
    versions = [child.parent for child in folder.glob(f"{version or '*'}/dataset_info.json")]
    if versions:
        newest = max(versions, key=lambda child: [int(n) for n in child.name.split(".")])
        return tfds.builder_from_directory(newest)
    configs = sorted(child.parents[1].name for child in folder.glob("*/*/dataset_info.json"))
    if configs:
        raise ValueError(f"tfds:{name} has several configs: name one of {', '.join(configs)}.")
    raise FileNotFoundError(
        f"tfds:{name} is not prepared in {data_dir}. Prepare it once, with TensorFlow installed: "
        f"tfds build {name} --data_dir={data_dir} --file_format=array_record"
    )
