"""64 px avatars, on two CPU cores: the networks of the model that comes with the package."""

import ml_collections

from configs import avatars32


def get_config() -> ml_collections.ConfigDict:
    config = avatars32.get_config()
    config.image_size = 64
    # Patches of twice the size: the same maps. A position of the finest paints 48 numbers.
    config.model.patch_size = 4
    config.model.generator_widths = (96, 128, 128)
    config.loss.kl = 3e-3
    config.num_train_steps = 22_500
    config.reconstruction_steps = 8_000
    config.prior_steps = 13_000
    return config
