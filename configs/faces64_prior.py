"""The learned prior of `faces64`: `configs/faces64.py` has the command.

There are 9,862 pictures, which the prior's network learns by heart: in a run of 3,000 steps
`held_out/prior` rises from about the 500th on.
"""

import ml_collections

from uctgan_jax.configs import prior


def get_config() -> ml_collections.ConfigDict:
    config = prior.get_config()
    config.num_train_steps = 600
    config.num_examples = 100_000
    config.prior.condition_width = 256  # with 512 the bundled model is over 12 MiB
    config.data.num_threads = 2
    config.data.cache_gib = 1.0
    config.checkpoint_every_steps = 100
    config.sample_every_steps = 600
    return config
