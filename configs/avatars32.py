"""32 px avatars, for two CPU cores. A GPU takes `avatars_gpu`, as the bundled model did."""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=32)
    config.batch_size = 64
    config.num_train_steps = 19_500
    config.reconstruction_steps = 12_000
    config.prior_steps = 6_000
    config.prior_examples = 600_000
    config.optimizer.decay_share = 0.5
    config.loss.kl = 3e-3
    # An l1 alone does not see a tear of four pixels: docs/training_log.md.
    config.loss.reconstruction_hole = 10.0
    config.loss.reconstruction_square = 300.0
    config.model.guidance = 1.0  # a prior from so many is better calibrated without
    config.log_every_steps = 50
    config.checkpoint_every_steps = 1_000
    config.sample_every_steps = 1_000

    # What a hat leaves to see of a skin is learned from tens of thousands of hats.
    config.data.avatars_examples = (600_000, 2_000, 2_000)
    config.data.flip = False  # portraits are not symmetric
    config.data.num_threads = 2

    # Boxes over the face, most of which leave some skin to see: what is never hidden need not be in
    # the code, and colours come from the condition. And one in three all of the face.
    config.mask.kind = "box,box,window"
    config.mask.hole_share = (0.2, 0.273)
    config.mask.region = (0.25, 0.25, 0.797, 0.75)

    config.eval.num_examples = 100
    config.eval.num_samples = 8
    config.eval.batch_size = 20
    return config
