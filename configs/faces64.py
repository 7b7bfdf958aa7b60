"""Photographs of faces at 64 px, on two CPU cores.

    python train.py --config=configs/faces64.py --workdir=runs/faces64 \\
        --config.data.source=folder:PATH
"""

import ml_collections

from uctgan_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=64)
    config.batch_size = 32
    config.num_train_steps = 100_000
    config.mask.kind = "center,box"
    config.mask.hole_share = (0.15, 0.3)
    config.data.num_threads = 2
    config.log_every_steps = 50
    config.checkpoint_every_steps = 250
    config.sample_every_steps = 500
    return config
