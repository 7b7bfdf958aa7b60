"""UCTGAN as in the paper, on any folder of pictures at 64 px. The first config to read.

    python train.py --config=configs/paper.py --workdir=runs/paper \\
        --config.data.source=folder:PATH

The prior is N(0, I), there is one stage, and the losses are the paper's four: condition constraint
(in image space and in manifold space), KL divergence, reconstruction and adversarial loss. The
paper does not publish its layers, norms, weights or optimiser settings: those are our choice.
"""

import ml_collections

from uctgan_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(64)
    config.model.discriminator_head_width = 0  # D judges pixels alone
    config.batch_size = 32
    config.num_train_steps = 100_000
    config.reconstruction_steps = 0  # one stage: all players learn from the first step
    config.instance_path = True  # I_c, the completion with another picture's code
    config.colour_jitter = 0.0
    config.augment = False
    config.ema_decay = 0.999

    config.data.source = "folder:data/pictures"
    config.mask.kind = "center"
    config.mask.hole_share = (0.25, 0.25)

    config.loss.condition_l1 = 1.0  # L_cc in image space: |I_c - I_g| over the known pixels
    config.loss.manifold_l1 = 0.1  # L_cc in manifold space: |E1(I_c) - z_i|
    config.loss.kl = 3e-4  # L_KL(E1(I) || N(0, I)), in nats, on I_i and I_g
    config.loss.reconstruction = 1.0  # L_rec: |I_r - I_g|
    config.loss.reconstruction_hole = 0.0
    config.loss.reconstruction_square = 0.0
    config.loss.perceptual = 0.0
    config.loss.adversarial = 0.1  # L_adv on I_c and I_r
    config.loss.gradient_penalty = 0.5  # keeps D smooth; no spectral norm

    config.optimizer.name = "adam"
    config.optimizer.generator_learning_rate = 5e-4
    config.optimizer.discriminator_learning_rate = 4e-4
    config.optimizer.beta1 = 0.0
    config.optimizer.beta2 = 0.99
    config.optimizer.decay_share = 0.33
    return config
