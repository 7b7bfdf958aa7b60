"""Prepares a folder of pictures for fast training: resized, cut square, in ArrayRecord files.

    python -m uctgan_jax.data.prepare --input=FOLDER --output=DIR --size=256

writes a set that `data.source = "tfds:DIR"` and `tfds.builder_from_directory` open, with the splits
of `sources.split_folder`. A picture is what `images.resize_and_crop` makes of it, as JPEG of
quality 95 or, with `--encoding=png`, without any loss, and keeps its relative path as `filename`.

The work is done in shards by several processes. A shard is written whole or not at all, so a run
that was killed goes on where it was when it is started again with the same arguments. Pictures
that cannot be read, and whatever else is left out, are listed in `skipped.txt` with the reason.
"""

import dataclasses
import functools
import hashlib
import io
import json
import math
import os
import shlex
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import tensorflow_datasets as tfds
from absl import flags
from array_record.python.array_record_module import ArrayRecordWriter
from tqdm import tqdm

from uctgan_jax import command_line
from uctgan_jax.data.sources import split_folder
from uctgan_jax.data.workers import check_main_is_guarded, cpu_count, map_in_processes
from uctgan_jax.files import held_alone, write_text
from uctgan_jax.images import read_image, resize_and_crop
from uctgan_jax.picture_folders import LeftOut

ENCODINGS = ("jpeg", "png")

FLAGS = flags.FlagValues()
_INPUT = command_line.define_path(
    "input", None, "Folder of pictures, at any depth.", FLAGS, required=True
)
_OUTPUT = command_line.define_path(
    "output", None, "New folder for the prepared set.", FLAGS, required=True
)
_SIZE = flags.DEFINE_integer(
    "size", None, "Side of the pictures in pixels.", required=True, flag_values=FLAGS
)
_ENCODING = flags.DEFINE_enum(
    "encoding", "jpeg", ENCODINGS, "The format; png loses nothing.", flag_values=FLAGS
)
_SHARD_PICTURES = flags.DEFINE_integer(
    "shard_pictures",
    None,
    "Pictures in a file; by default a 64th of all, but 64 to 4096.",
    lower_bound=1,
    flag_values=FLAGS,
)


@dataclasses.dataclass(frozen=True)
class _Shard:
    """A file to write: pictures `names` (relative paths) of `split`."""

    split: str
    number: int
    names: tuple[str, ...]

    @property
    def stem(self) -> str:
        return f"{self.split}-{self.number:05d}"


def prepare(
    folder: str | Path,
    output: str | Path,
    *,
    size: int,
    encoding: str = "jpeg",
    shard_pictures: int | None = None,
    num_workers: int | None = None,
) -> dict:
    """Write the pictures of `folder` to ArrayRecord files in `output`.

    Args:
      folder: pictures at any depth.
      output: a new folder, or what an interrupted run with the same arguments left.
      size: side of the stored pictures in pixels.
      encoding: "jpeg" (quality 95) or "png" (lossless).
      shard_pictures: pictures in a file; default a 64th of all, but 64 to 4096.
      num_workers: processes; default one a processor. The examples do not depend on it.

    Returns: `splits`, how many pictures were written by split; `skipped`, (relative path, reason)
      of the pictures that cannot be read; `left_out`, the same of what is not taken for a picture,
      see `picture_folders.pictures_under`; `bytes`, the size of all files.

    Raises: FileNotFoundError for a missing folder; ValueError for bad arguments, a folder without
      a readable picture, an output with other contents; OSError when the disk has too little room.
    """
    check_main_is_guarded()
    if size < 1:
        raise ValueError(f"Picture size ({size}) must be positive.")
    if encoding not in ENCODINGS:
        raise ValueError(f"Unknown encoding {encoding!r}: must be one of {', '.join(ENCODINGS)}.")
    folder, output = Path(folder).resolve(), Path(output).resolve()
    left_out: list[LeftOut] = []
    shards = _plan(folder, shard_pictures, left_out)
    if not shards:
        raise ValueError(f"No pictures in {str(folder)!r}.")
    progress = _claim(output, folder, shards, size=size, encoding=encoding)
    busy = f"Another run is preparing {str(output)!r}."
    with held_alone(progress / "lock", busy=busy):
        missing = [shard for shard in shards if not (progress / f"{shard.stem}.json").exists()]
        _check_disk(missing, folder, progress, size=size, encoding=encoding)
        write = functools.partial(
            _write_shard, folder=folder, progress=progress, size=size, encoding=encoding
        )
        total = sum(len(shard.names) for shard in shards)
        left = sum(len(shard.names) for shard in missing)
        with tqdm(desc="prepare", initial=total - left, total=total, unit="picture") as bar:
            done = map_in_processes(write, missing, num_workers=num_workers or cpu_count())
            for shard, _ in zip(missing, done, strict=True):
                bar.update(len(shard.names))
        others = [(os.path.relpath(item.path, folder), item.reason) for item in left_out]
        summary = _finish(output, progress, shards, others, size=size, encoding=encoding)
    shutil.rmtree(progress)
    return summary


def _plan(folder: Path, shard_pictures: int | None, left_out: list[LeftOut]) -> list[_Shard]:
    splits = split_folder(folder, left_out)
    if shard_pictures is None:
        count = sum(map(len, splits.values()))
        shard_pictures = min(max(math.ceil(count / 64), 64), 4096)
    shards = []
    for split, paths in splits.items():
        names = [path.relative_to(folder).as_posix() for path in paths]
        for number, start in enumerate(range(0, len(names), shard_pictures)):
            shards.append(_Shard(split, number, tuple(names[start : start + shard_pictures])))
    return shards


def _claim(output: Path, folder: Path, shards: list[_Shard], *, size: int, encoding: str) -> Path:
    """The folder for unfinished work, new or left by a run with the same arguments."""
    progress = output / ".progress"
    listing = repr([(shard.stem, shard.names) for shard in shards])
    arguments = {
        "input": str(folder),
        "size": size,
        "encoding": encoding,
        "pictures": hashlib.sha256(listing.encode()).hexdigest(),
    }
    record = progress / "arguments.json"
    if record.exists():
        previous = json.loads(record.read_text())
        different = [key for key in arguments if arguments[key] != previous[key]]
        if different:
            raise ValueError(
                f"{str(output)!r} holds an unfinished run of other {', '.join(different)}: "
                "give its arguments, or another output."
            )
    elif (output / "dataset_info.json").exists():
        raise ValueError(f"{str(output)!r} holds a prepared set already: give a new folder.")
    elif output.exists() and any(child != progress for child in output.iterdir()):
        raise ValueError(f"{str(output)!r} is not empty: give a new folder.")
    else:
        progress.mkdir(parents=True, exist_ok=True)
        write_text(record, json.dumps(arguments))
    return progress


def _check_disk(
    shards: list[_Shard], folder: Path, progress: Path, *, size: int, encoding: str
) -> None:
    names = [name for shard in shards for name in shard.names]
    sample = []
    for name in names[:: max(1, len(names) // 16)]:
        try:
            sample.append(len(_encoded(folder / name, size, encoding)))
        except Exception:  # whatever a damaged picture may raise
            pass
    if not sample:
        return
    need = int(1.05 * np.mean(sample) * len(names))
    free = shutil.disk_usage(progress).free
    if need > free:
        raise OSError(
            f"{len(names)} pictures need about {need / 1e9:.1f} GB, but {str(progress.parent)!r} "
            f"has {free / 1e9:.1f} GB free."
        )


def _encoded(path: Path, size: int, encoding: str) -> bytes:
    image = resize_and_crop(read_image(path), size)
    if encoding == "jpeg":
        return simplejpeg.encode_jpeg(image, quality=95, colorspace="RGB", colorsubsampling="444")
    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def _features(size: int, encoding: str) -> tfds.features.FeaturesDict:
    image = tfds.features.Image(shape=(size, size, 3), encoding_format=encoding)
    return tfds.features.FeaturesDict({"image": image, "filename": tfds.features.Text()})


def _write_shard(shard: _Shard, *, folder: Path, progress: Path, size: int, encoding: str) -> None:
    """Write one ArrayRecord file, then what is in it as JSON, whose presence says it is done."""
    partial = progress / f"{shard.stem}.partial"
    try:
        count, skipped = _write_records(partial, shard.names, folder, size, encoding)
    except RuntimeError as error:  # as ArrayRecord calls a full disk
        partial.unlink(missing_ok=True)
        raise OSError(f"{partial} cannot be written: {error}") from error
    os.replace(partial, progress / f"{shard.stem}.array_record")
    bytes_ = (progress / f"{shard.stem}.array_record").stat().st_size
    result = {"count": count, "bytes": bytes_, "skipped": skipped}
    write_text(progress / f"{shard.stem}.json", json.dumps(result))


def _write_records(
    path: Path, names: Sequence[str], folder: Path, size: int, encoding: str
) -> tuple[int, list[tuple[str, str]]]:
    """How many pictures were written, and (name, reason) of those that cannot be read."""
    features = _features(size, encoding)
    # Pictures are compressed already.
    writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
    count, skipped = 0, []
    for name in names:
        try:
            picture = _encoded(folder / name, size, encoding)
        except Exception as error:  # whatever a damaged picture may raise
            reason = str(error) or type(error).__name__
            skipped.append((name, reason.removeprefix(f"{folder / name}: ")))
            continue
        example = {"image": io.BytesIO(picture), "filename": _as_text(name)}
        writer.write(features.serialize_example(features.encode_example(example)))
        count += 1
    writer.close()
    return count, skipped


def _as_text(name: str) -> str:
    """A file's name as UTF-8 can hold it: on disk it may be any bytes, which are escaped."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _finish(
    output: Path,
    progress: Path,
    shards: list[_Shard],
    left_out: list[tuple[str, str]],
    *,
    size: int,
    encoding: str,
) -> dict:
    """Give the shards their final names and describe them. Done again after a kill, it goes on."""
    results = {shard: json.loads((progress / f"{shard.stem}.json").read_text()) for shard in shards}
    # A shard in which nothing could be read has no file.
    filled = [shard for shard in shards if results[shard]["count"]]
    if not filled:
        raise ValueError(f"None of the {sum(len(s.names) for s in shards)} pictures can be read.")
    template = tfds.core.ShardedFileTemplate(
        data_dir=output,
        dataset_name="pictures",
        filetype_suffix="array_record",
        template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    splits = []
    for split in dict.fromkeys(shard.split for shard in filled):
        of_split = [shard for shard in filled if shard.split == split]
        split_template = template.replace(split=split)
        for index, shard in enumerate(of_split):
            written = progress / f"{shard.stem}.array_record"
            final = split_template.sharded_filepath(shard_index=index, num_shards=len(of_split))
            if written.exists():
                os.replace(written, final)
        splits.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[results[shard]["count"] for shard in of_split],
                num_bytes=sum(results[shard]["bytes"] for shard in of_split),
                filename_template=split_template,
            )
        )
    skipped = [tuple(pair) for shard in shards for pair in results[shard]["skipped"]]
    lines = [f"{_as_text(name)}\t{_as_text(why)}\n" for name, why in [*skipped, *left_out]]
    write_text(output / "skipped.txt", "".join(lines))
    tfds.folder_dataset.write_metadata(
        data_dir=output,
        features=_features(size, encoding),
        split_infos=splits,
        filename_template=template,
        check_data=False,  # which would need TensorFlow
        description=f"Pictures, {size} x {size}.",
    )
    return {
        "splits": {split.name: split.num_examples for split in splits},
        "skipped": skipped,
        "left_out": left_out,
        "bytes": sum(split.num_bytes for split in splits),
    }


def main() -> None:
    command_line.run(_prepare, FLAGS)


def _prepare() -> None:
    output = _OUTPUT.value
    summary = prepare(
        _INPUT.value,
        output,
        size=_SIZE.value,
        encoding=_ENCODING.value,
        shard_pictures=_SHARD_PICTURES.value,
    )
    splits = ", ".join(f"{split} {count}" for split, count in summary["splits"].items())
    print(f"{output}: {splits} pictures, {summary['bytes'] / 1e6:.1f} MB")
    for kind in ("skipped", "left_out"):
        if summary[kind]:
            reasons = Counter(reason for _, reason in summary[kind])
            listed = output / "skipped.txt"
            print(f"{kind.replace('_', ' ')} {len(summary[kind])}, listed in {listed}:")
            for reason, count in reasons.most_common(10):
                print(f"  {count} x {reason}")
    print(f"train on it with --config.data.source={shlex.quote(f'tfds:{output.resolve()}')}")


if __name__ == "__main__":
    main()
