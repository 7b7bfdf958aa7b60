"""64 px avatars, on two CPU cores: `avatars32` grown, its G trained on.

E1 and E2 stay as they are, with the codes that they know. G learns to paint more pixels, and the
prior how the finer drawings look to E1 and E2. The bundled `avatars64` is from scratch, by
`avatars_gpu.py:64`; those before it were made so.
"""

import ml_collections

from configs import avatars32


def get_config() -> ml_collections.ConfigDict:
    config = avatars32.get_config()
    config.image_size = 64
    config.init_from = "avatars32"
    config.frozen = ("projection", "encoder")
    # Patches of twice the size: the same maps. A position of the finest paints 48 numbers.
    config.model.patch_size = 4
    config.model.generator_widths = (128, 96, 128)
    config.batch_size = 32
    config.num_train_steps = 14_100
    config.reconstruction_steps = 4_600
    config.prior_steps = 9_000
    config.checkpoint_every_steps = 500
    return config
