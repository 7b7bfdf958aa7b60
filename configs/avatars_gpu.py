"""Avatars on one GPU: `--config=configs/avatars_gpu.py:64`, or `:32`, or `:128`.

The networks of 32 px are those of `avatars32`; those of 64 px have patches of 2, which two cores
are too slow for; those of 128 px are of the sizes that these grow to (`init_from`), with patches
of 4. docs/training_log.md has what GPUs made of it.
"""

import ml_collections

from configs import avatars32


def get_config(image_size: str = "64") -> ml_collections.ConfigDict:
    config = avatars32.get_config()
    if image_size in ("64", "128"):
        config.image_size = int(image_size)
        config.model.update(
            projection_widths=(48, 64, 96, 96),
            encoder_widths=(48, 64, 96, 128),
            generator_widths=(64, 96, 128, 96),
            discriminator_widths=(48, 96, 128, 128),
        )
    elif image_size != "32":
        raise ValueError(f"image size ({image_size!r}) must be 32, 64 or 128")
    if image_size == "128":
        config.model.patch_size = 4
        config.model.generator_widths = (128, 96, 128, 96)  # a position paints 48 numbers
    config.batch_size = 128
    config.num_train_steps = 32_000
    config.reconstruction_steps = 14_000
    config.prior_steps = 10_000
    config.log_every_steps = 100
    config.checkpoint_every_steps = 2_000
    config.sample_every_steps = 2_000
    config.data.num_threads = 8
    return config
