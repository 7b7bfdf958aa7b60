"""64 px avatars with the networks of the 64 px preset, for a GPU, in slices (docs/training.md)."""

import ml_collections

from configs import avatars32, default


def get_config() -> ml_collections.ConfigDict:
    config = avatars32.get_config()
    config.image_size = 64
    config.model.update(default.MODELS[64])
    config.batch_size = 64
    config.num_train_steps = 15_000
    config.reconstruction_steps = 8_000
    config.prior_steps = 2_000
    config.log_every_steps = 100
    config.data.num_threads = 8
    return config
