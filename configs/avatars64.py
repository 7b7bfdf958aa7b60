"""64 px avatars: the recipe of the model that comes with the package, on two CPU cores.

`avatars32` grown: pictures and patches of twice the size, the same maps, nearly the same cost.
"""

import ml_collections

from configs import avatars32


def get_config() -> ml_collections.ConfigDict:
    config = avatars32.get_config()
    config.image_size = 64
    config.model.patch_size = 4
    config.init_from = "avatars32"
    config.num_train_steps = 30_000
    config.reconstruction_steps = 18_000
    config.prior_steps = 8_000
    return config
