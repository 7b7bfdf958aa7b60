"""A conditional VAE (Sohn, Lee, Yan, 2015), the baseline: our networks, two losses.

    python train.py --config=configs/cvae.py --workdir=runs/cvae \\
        --config.data.source=folder:PATH

Of `configs/paper.py` the reconstruction and KL terms are left: no completion with another picture's
code, no discriminator. Data, budget, optimiser and both weights are the same.
"""

import ml_collections

from uctgan_jax.configs import paper


def get_config() -> ml_collections.ConfigDict:
    config = paper.get_config()
    config.instance_path = False
    config.loss.condition_l1 = 0.0
    config.loss.manifold_l1 = 0.0
    config.loss.adversarial = 0.0
    config.loss.gradient_penalty = 0.0
    return config
