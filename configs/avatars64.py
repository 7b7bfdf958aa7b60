"""64 px avatars, for a GPU: half an hour of one, in slices (docs/training.md)."""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=64)
    config.batch_size = 64
    config.num_train_steps = 15_000
    config.checkpoint_every_steps = 500
    config.sample_every_steps = 1_000

    config.data.flip = False  # portraits are not symmetric

    # Boxes over the face, as in `avatars32`.
    config.mask.kind = "box"
    config.mask.hole_share = (0.14, 0.27)
    config.mask.region = (0.25, 0.25, 0.797, 0.75)

    config.eval.num_examples = 100
    config.eval.num_samples = 8
    config.eval.batch_size = 20
    return config
