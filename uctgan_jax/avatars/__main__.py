"""Draws the avatars data set: `python -m uctgan_jax.avatars --size=32 --data_dir=DIR`."""

import os

from absl import flags

from uctgan_jax import command_line
from uctgan_jax.avatars.dataset import DEFAULT_EXAMPLES, SIZES, prepared_avatars

FLAGS = flags.FlagValues()
_SIZE = flags.DEFINE_enum(
    "size", "64", [str(size) for size in SIZES], "Side in pixels.", flag_values=FLAGS
)
_DATA_DIR = command_line.define_path(
    "data_dir",
    os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"),
    "TFDS data folder.",
    FLAGS,
)
_EXAMPLES = flags.DEFINE_list(
    "examples",
    [str(n) for n in DEFAULT_EXAMPLES],
    "Pictures in train, validation, test.",
    flag_values=FLAGS,
)


def _draw() -> None:
    try:
        examples = tuple(int(n) for n in _EXAMPLES.value)
    except ValueError as error:
        raise ValueError(f"--examples must be whole numbers: {error}.") from error
    builder = prepared_avatars(int(_SIZE.value), data_dir=_DATA_DIR.value, examples=examples)
    counts = "/".join(map(str, examples))
    print(f"avatars {_SIZE.value} px, {counts} examples: {builder.data_dir}")


if __name__ == "__main__":
    command_line.run(_draw, FLAGS)
