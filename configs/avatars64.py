"""Cartoon portraits at 64 px, on one GPU: the recipe of the bundled `avatars64`.

    python train.py --config=configs/avatars64.py --workdir=runs/avatars64
    python train_prior.py --config=configs/avatars_prior.py --model=runs/avatars64 \\
        --workdir=runs/avatars64_prior --config.mask_kind=box,window
"""

import ml_collections

from uctgan_jax.configs import avatars32, default


def get_config() -> ml_collections.ConfigDict:
    config = avatars32.get_config()
    config.image_size = 64
    config.model.update(
        default.MODELS[64],
        code_dim=32,
        generator_widths=(64, 96, 128, 96),
        discriminator_widths=(48, 96, 128, 128),
        discriminator_patch_size=2,
        discriminator_head_width=0,
        attention_heads=1,
    )
    config.batch_size = 128
    config.num_train_steps = 22_000
    config.reconstruction_steps = 14_000
    config.log_every_steps = 100
    config.checkpoint_every_steps = 2_000
    config.sample_every_steps = 2_000
    config.data.num_threads = 8
    return config
