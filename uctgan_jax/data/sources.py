"""Where pictures come from: `open_source("avatars" | "folder:PATH" | "tfds:NAME")`.

A source is a sequence of whole pictures, uint8 RGB [H, W, 3] of any size, for one split. Opening
one is cheap and tells what is wrong with a specification; only `avatars` may work for a while, when
it draws its pictures for the first time.
"""

import bisect
import hashlib
import itertools
import os
import re
import threading
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2

from uctgan_jax.files import typed_path
from uctgan_jax.images import read_image
from uctgan_jax.picture_folders import (
    SUFFIXES,
    LeftOut,
    describe,
    picture_name,
    pictures_under,
)

SPLITS = ("train", "validation", "test")

_HELD_OUT_PERCENT = 5.0  # of a folder's pictures, for validation and for test each
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
# Files of TFDS sets that have to be downloaded by hand.
_BY_HAND = {
    "celeb_a_hq": "dataNxN.tar (N the side of the pictures)",
    "imagenet2012": "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar",
}
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
    """A sequence of pictures, uint8 RGB [H, W, 3].

    `keys`, where there are any, are the pictures' names: relative paths without their endings.
    """

    name: str
    keys: Sequence[str] | None

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> np.ndarray: ...


class CorruptDataError(ValueError):
    """More pictures are damaged than the configuration puts up with."""


def open_source(
    spec: str,
    *,
    split: str,
    image_size: int,
    data_dir: str | Path | None = None,
    avatars_examples: tuple[int, int, int] | None = None,
    max_corrupt: int = 0,
) -> Source:
    """Open the pictures of one split.

    Args:
      spec: "avatars"; "folder:PATH" (see `split_folder`); "tfds:NAME", "tfds:NAME/CONFIG",
        "tfds:NAME/CONFIG:VERSION" or "tfds:PATH" (see `TfdsSource`).
      split: "train", "validation" or "test".
      image_size: the side that avatars are drawn at; others come whole.
      data_dir: the TFDS data folder; default $TFDS_DATA_DIR, else ~/tensorflow_datasets.
      avatars_examples: the number of avatars in train, validation and test, by default 50,000,
        2,000 and 2,000. Those to train on are drawn when they are asked for.
      max_corrupt: how many pictures that cannot be read are named in the log and replaced by the
        next one of the source; one more raises CorruptDataError when it is met.

    Raises: ValueError for an unknown form or split, a source without pictures, or avatars without
      the extra `avatars`; FileNotFoundError for a missing folder or a TFDS set that is not
      prepared.
    """
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}: must be one of {', '.join(SPLITS)}.")
    data_dir = str(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
    data_dir = typed_path(data_dir)
    kind, _, argument = spec.partition(":")
    if spec == "avatars":
        builder = _prepared_avatars(
            image_size, data_dir, avatars_examples, held_out_alone=split != "train"
        )
        return TfdsSource(builder, split=split, name="avatars", max_corrupt=max_corrupt)
    if kind == "folder" and argument:
        return FolderSource(typed_path(argument), split=split, max_corrupt=max_corrupt)
    if kind == "tfds" and argument:
        builder = _prepared_tfds(argument, data_dir)
        return TfdsSource(builder, split=split, name=spec, max_corrupt=max_corrupt)
    meant = f" Did you mean folder:{spec}?" if typed_path(spec).is_dir() else ""
    raise ValueError(
        f'Unknown data source {spec!r}: must be "avatars", "folder:PATH" or "tfds:NAME".{meant}'
    )


class _TolerantSource:
    """A source that steps over damaged pictures: a subclass says how to read one."""

    keys: Sequence[str] | None = None

    def __init__(self, name: str, max_corrupt: int):
        self.name = name
        self._max_corrupt = max_corrupt
        self._corrupt: set[int] = set()
        self._lock = threading.Lock()  # pictures are read in several threads

    def __getitem__(self, i: int) -> np.ndarray:
        while True:
            j = self.stand_in(i)
            try:
                return self._read(j)
            except (ValueError, OSError) as error:
                self._report(j, error)

    def stand_in(self, i: int) -> int:
        """Which picture comes for number i, once it was read: itself, unless it is damaged."""
        for j in itertools.chain(range(i, len(self)), range(i)):
            if j not in self._corrupt or len(self._corrupt) > self._max_corrupt:
                return j
        raise CorruptDataError(f"{self.name}: no picture can be read.")

    def _report(self, i: int, error: Exception) -> None:
        with self._lock:
            if i not in self._corrupt:
                self._corrupt.add(i)
                logging.warning("%s: cannot be read, and is skipped: %s", self.name, error)
            count = len(self._corrupt)
        if count > self._max_corrupt:
            raise CorruptDataError(
                f"{self.name}: {count} pictures cannot be read, more than max_corrupt "
                f"({self._max_corrupt}); the last: {error}"
            ) from error


class FolderSource(_TolerantSource):
    """All pictures under a folder, at any depth: see `split_folder` for which are in a split."""

    def __init__(self, path: str | Path, *, split: str, max_corrupt: int = 0):
        """What is left out is named in the log.

        Raises: as `split_folder`; ValueError for a split without pictures.
        """
        super().__init__(f"folder:{path}", max_corrupt)
        left_out: list[LeftOut] = []
        splits = split_folder(path, left_out)
        if left_out:
            logging.warning("%s: %s", self.name, describe(left_out))
        self.paths = splits[split]
        if not self.paths:
            counts = ", ".join(f"{name} {len(paths)}" for name, paths in splits.items())
            raise ValueError(
                f"No pictures for split {split!r} in {str(path)!r} (found: {counts}; "
                f"known endings: {' '.join(SUFFIXES)})."
            )
        self._folder = Path(path)

    @property
    def keys(self) -> list[str]:
        return [picture_name(path, self._folder) for path in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def _read(self, i: int) -> np.ndarray:
        return read_image(self.paths[i])


def split_folder(path: str | Path, left_out: list[LeftOut] | None = None) -> dict[str, list[Path]]:
    """The pictures under a folder, at any depth, by split, see `pictures_under`.

    A folder `train`, `validation` (or `val`) or `test` directly inside is that split, and pictures
    outside of these folders are ignored. Splits without a folder of their own are taken out of
    the pictures of `train`, or of all if there are no such folders, by a hash of the path relative
    to `path`: 90 % train, 5 % validation, 5 % test. Adding files does not move a file to another
    split, except in a folder so small that a split would be empty: it then gets one picture.

    Args:
      left_out: takes up the files and folders that are left out.

    Raises: FileNotFoundError for a missing folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"Picture folder {str(path)!r} does not exist.")
    splits: dict[str, list[Path]] = {split: [] for split in SPLITS}
    explicit = set()
    for split, names in _SPLIT_FOLDERS.items():
        for child in (folder / name for name in names):
            if child.is_dir():
                splits[split] += pictures_under(child, left_out)
                explicit.add(split)
    if explicit:
        pool = splits["train"]
        _leave_out_others(folder, left_out)
    else:
        pool = pictures_under(folder, left_out)
    hashed = [split for split in SPLITS[1:] if split not in explicit]
    # By position from 0 to 100: train, then validation, then test.
    rest = sorted((_hash_percent(file.relative_to(folder)), file) for file in pool)
    end = 100.0
    for split in reversed(hashed):
        end -= _HELD_OUT_PERCENT
        first = bisect.bisect_left(rest, end, key=lambda pair: pair[0])
        first = max(1, min(first, len(rest) - 1))  # at least one for it, and one for `train`
        splits[split] = sorted(file for _, file in rest[first:])
        rest = rest[:first]
    splits["train"] = sorted(file for _, file in rest)
    return splits


def _leave_out_others(folder: Path, left_out: list[LeftOut] | None) -> None:
    """What lies beside the folders of splits."""
    known = {name for names in _SPLIT_FOLDERS.values() for name in names}
    if left_out is not None:
        others = sorted(child for child in folder.iterdir() if child.name not in known)
        left_out += [LeftOut(child, "beside the folders of splits") for child in others]


def _hash_percent(relative: Path) -> float:
    """A number in [0, 100) that depends on the name alone."""
    # Some file systems decompose accents: the same name must hash the same everywhere.
    name = unicodedata.normalize("NFC", relative.as_posix())
    name = name.encode(errors="surrogateescape")  # names need not be UTF-8
    return int.from_bytes(hashlib.sha256(name).digest()[:6], "big") / 2**48 * 100


class TfdsSource(_TolerantSource):
    """The pictures of a prepared TFDS set in ArrayRecord files, read without TensorFlow.

    A set with only some of the three splits is divided: see `_TFDS_FALLBACK`.
    """

    def __init__(
        self, builder: tfds.core.DatasetBuilder, *, split: str, name: str, max_corrupt: int = 0
    ):
        """Raises: ValueError for a set without pictures, or in another file format."""
        super().__init__(name, max_corrupt)
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
        self._records = builder.as_data_source(
            split=expression, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        if len(self._records) == 0:
            raise ValueError(f"{name}: split {split!r} ({expression}) is empty.")

    def __len__(self) -> int:
        return len(self._records)

    def _read(self, i: int) -> np.ndarray:
        # One record by itself: for several, ArrayRecord starts threads that cost more than they
        # bring. Parsed here, as TFDS would decode pictures with TensorFlow, and is slower without.
        record = self._records[i]
        try:
            example = tf_example_pb2.Example.FromString(record)
            values = example.features.feature[self._key].bytes_list.value
            if not values:
                raise ValueError(f"no {self._key!r}.")
            return read_image(values[0])
        except (ValueError, DecodeError) as error:
            raise ValueError(f"record {i}: {error}") from error


def _prepared_avatars(
    image_size: int,
    data_dir: Path,
    examples: tuple[int, int, int] | None,
    *,
    held_out_alone: bool,
) -> tfds.core.DatasetBuilder:
    try:
        from uctgan_jax.avatars import dataset
    except ImportError as error:
        raise ValueError(str(error)) from error
    return dataset.prepared_avatars(
        image_size,
        data_dir=data_dir,
        examples=examples or dataset.DEFAULT_EXAMPLES,
        held_out_alone=held_out_alone,
    )


def _prepared_tfds(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    """The set NAME[/CONFIG][:VERSION] as it lies on disk: neither its code nor TensorFlow."""
    path, _, version = name.partition(":")
    folder = data_dir / path
    # As `prepare` writes it: a folder, whose name may have a colon.
    for one_set in (data_dir / name, typed_path(name).absolute(), folder):
        if (one_set / "dataset_info.json").exists():
            return tfds.builder_from_directory(one_set)
    versions = [
        child.parent
        for child in folder.glob(f"{version or '*'}/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", child.parent.name)
    ]
    if versions:
        newest = max(versions, key=lambda child: [int(n) for n in child.name.split(".")])
        return tfds.builder_from_directory(newest)
    configs = sorted(child.parents[1].name for child in folder.glob("*/*/dataset_info.json"))
    if configs:
        raise ValueError(f"tfds:{name} has several configs: name one of {', '.join(configs)}.")
    message = (
        f"tfds:{name} is not prepared in {data_dir}. Prepare it once, where TensorFlow is "
        "installed (pip install tensorflow tensorflow-datasets): "
        f"tfds build {name} --data_dir={data_dir} --file_format=array_record"
    )
    by_hand = _BY_HAND.get(path.partition("/")[0])
    if by_hand:
        message += f" --manual_dir=FOLDER, with {by_hand} downloaded by hand into FOLDER"
    raise FileNotFoundError(f"{message}.")
