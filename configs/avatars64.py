"""64 px avatars: a model that a few hours of CPU, or minutes of a GPU, can train."""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=64)
    config.batch_size = 32
    config.num_train_steps = 50_000
    config.checkpoint_every_steps = 1_000
    config.sample_every_steps = 1_000

    config.data.flip = False  # portraits are not symmetric

    # Boxes over the face.
    config.mask.kind = "box"
    config.mask.hole_share = (0.16, 0.36)
    config.mask.region = (0.2, 0.2, 0.85, 0.8)

    config.optimizer.generator_learning_rate = 4e-4
    config.optimizer.discriminator_learning_rate = 4e-4
    return config
