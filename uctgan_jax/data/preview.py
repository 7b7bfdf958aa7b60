"""Shows what training will see: `python -m uctgan_jax.data.preview --config=configs/avatars32.py`.

Writes a contact sheet of the first examples of a run: picture, the picture with its hole, the mask
(white = hole) and the instance picture, exactly as they go to the device.
"""

import numpy as np
from absl import flags, logging
from ml_collections import ConfigDict

from uctgan_jax import command_line
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import train_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.images import contact_sheet, write_image

FLAGS = flags.FlagValues()
_CONFIG = command_line.define_config("The configuration of the run.", FLAGS, required=True)
_OUTPUT = command_line.define_path("output", "preview.png", "The picture to write.", FLAGS)
_COUNT = flags.DEFINE_integer("count", 16, "How many examples.", lower_bound=1, flag_values=FLAGS)


def preview(config: ConfigDict, count: int) -> np.ndarray:
    """A contact sheet of the first `count` examples of a training run: uint8 RGB [H, W, 3]."""
    source = open_source(
        config.data.source,
        split="train",
        image_size=config.image_size,
        data_dir=config.data.dir,
        avatars_examples=tuple(config.data.avatars_examples),
        max_corrupt=config.data.max_corrupt,
    )
    batch = next(
        train_batches(
            source,
            image_size=config.image_size,
            batch_size=count,
            masks=MaskOptions(**config.mask),
            flip=config.data.flip,
            zoom=config.data.zoom,
            seed=config.seed,
            num_threads=config.data.num_threads,
        )
    )
    masked = np.where(batch["mask"] == 1, np.uint8(255), batch["image"])
    examples = list(zip(batch["image"], masked, batch["mask"], batch["instance"], strict=True))
    labels = ("picture", "with hole", "mask", "instance")
    # Two examples side by side, so that sixteen fit on a screen.
    columns = 2 if count > 1 else 1
    rows = [sum(examples[i : i + columns], ()) for i in range(0, count, columns)]
    return contact_sheet(rows, labels=labels * columns)


def _preview() -> None:
    logging.set_verbosity(logging.WARNING)
    write_image(_OUTPUT.value, preview(_CONFIG.value, _COUNT.value))
    print(f"wrote {_OUTPUT.value}")


if __name__ == "__main__":
    command_line.run(_preview, FLAGS)
