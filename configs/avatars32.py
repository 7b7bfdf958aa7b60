"""Cartoon portraits at 32 px, on two CPU cores: the recipe of the bundled `avatars32`.

    python train.py --config=configs/avatars32.py --workdir=runs/avatars32
    python train_prior.py --config=configs/avatars_prior.py --model=runs/avatars32 \\
        --workdir=runs/avatars32_prior

Reconstructions alone teach E1, E2 and G: on cartoons neither the discriminator nor the instance
path changes a figure (docs/experiments.md). The prior is learned.
"""

import ml_collections

from uctgan_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=32)
    config.batch_size = 64
    config.num_train_steps = 13_500
    config.reconstruction_steps = 12_000
    config.model.discriminator_head_width = 0
    config.colour_jitter = 0.0
    config.augment = False
    config.log_every_steps = 50
    config.checkpoint_every_steps = 1_000
    config.sample_every_steps = 1_000

    config.loss.reconstruction = 5.0
    # The l1 alone does not teach small parts, such as a tear of four pixels.
    config.loss.reconstruction_hole = 10.0
    config.loss.reconstruction_square = 300.0
    config.loss.perceptual = 0.0
    config.loss.condition_l1 = 10.0
    config.loss.manifold_l1 = 0.5
    config.loss.kl = 3e-3
    config.loss.adversarial = 0.08

    config.optimizer.name = "muon"
    config.optimizer.generator_learning_rate = 3e-3
    config.optimizer.discriminator_learning_rate = 3e-3
    config.optimizer.beta1 = 0.9
    config.optimizer.decay_share = 0.5

    # The skin beside a hat is learned only from tens of thousands of portraits with hats.
    config.data.source = "avatars"
    config.data.avatars_examples = (600_000, 2_000, 2_000)
    config.data.flip = False  # portraits are not symmetric
    config.data.num_threads = 2

    # Two holes in three are boxes over the face. Most leave some skin to see, so that its colour
    # comes from the condition and not from the code. The third hides all of the face.
    config.mask.kind = "box,box,window"
    config.mask.hole_share = (0.2, 0.273)
    config.mask.region = (0.25, 0.25, 0.797, 0.75)

    config.eval.num_examples = 100
    config.eval.num_samples = 8
    config.eval.batch_size = 20
    return config
