"""The learned prior of cartoon portraits: `configs/avatars32.py` has the command."""

import ml_collections

from uctgan_jax.configs import prior


def get_config() -> ml_collections.ConfigDict:
    config = prior.get_config()
    config.num_examples = 600_000
    config.data.num_threads = 2
    return config
