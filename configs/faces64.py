"""Photographs of faces at 64 px, on two CPU cores: the recipe of the bundled `faces64`.

    python train.py --config=configs/faces64.py --workdir=runs/faces64 \\
        --config.data.source=folder:PATH
    python train_prior.py --config=configs/faces64_prior.py --model=runs/faces64 \\
        --workdir=runs/faces64_prior
"""

import ml_collections

from uctgan_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=64)
    config.batch_size = 32
    config.num_train_steps = 6_000
    config.reconstruction_steps = 500
    config.optimizer.decay_share = 0.2
    config.mask.kind = "center,box,free_form"
    config.mask.hole_share = (0.2, 0.35)
    config.data.zoom = 2.0  # the faces are aligned, and those of users will not be
    config.data.num_threads = 2
    config.log_every_steps = 50
    config.checkpoint_every_steps = 250
    config.sample_every_steps = 250
    config.eval.num_samples = 8
    return config
