"""CelebA-HQ at 256 px with the centre hole of the paper: 30,000 portraits, through TFDS.

The set is prepared once, with TensorFlow and a manual download: docs/data.md has the commands.
"""

import ml_collections

from uctgan_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=256)
    config.compute_dtype = "bfloat16"
    config.data.source = "tfds:celeb_a_hq/256"
    return config
