"""PIC on any folder of pictures at 64 px; data, budget and optimiser are those of `paper.py`."""

import ml_collections

from uctgan_jax.configs import paper


def get_config() -> ml_collections.ConfigDict:
    config = paper.get_config()
    for name in ("init_from", "reconstruction_steps", "instance_path", "colour_jitter", "augment"):
        del config[name]

    # Channel widths from the finest map on.
    config.model = ml_collections.ConfigDict()
    config.model.patch_size = 2
    config.model.code_channels = 32  # the code is a map of 4 x 4
    config.model.encoder_widths = (48, 64, 96, 128)
    config.model.posterior_blocks = 1
    config.model.prior_blocks = 3
    config.model.generator_widths = (64, 96, 128, 128)
    config.model.attention_resolution = 16
    config.model.discriminator_widths = (64, 96, 128)  # of each of the two
    config.model.discriminator_patch_size = 4

    # Each weighs a term of the reconstructive path and one of the generative path.
    config.loss = ml_collections.ConfigDict()
    config.loss.kl = 20.0 / 8192  # a nat: the paper's 20, of a mean over its 8 x 8 x 128 numbers
    config.loss.appearance = 20.0  # l1
    config.loss.adversarial = 1.0
    config.loss.gradient_penalty = 0.5  # R1 of both discriminators
    return config
