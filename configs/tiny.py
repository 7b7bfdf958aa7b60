"""A short run of `avatars32`, to see training work: minutes on two CPU cores.

    python train.py --config=configs/tiny.py --workdir=runs/tiny

Faces differ, but are far from as good as those of the bundled model.
"""

import ml_collections

from uctgan_jax.configs import avatars32


def get_config() -> ml_collections.ConfigDict:
    config = avatars32.get_config()
    config.batch_size = 16
    config.num_train_steps = 800
    config.reconstruction_steps = 800
    config.log_every_steps = 20
    config.checkpoint_every_steps = 200
    config.sample_every_steps = 200
    config.data.avatars_examples = (6_000, 200, 200)
    return config
