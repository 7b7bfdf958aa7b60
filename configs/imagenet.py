"""ImageNet at 256 px with free-form holes: 1.3 million pictures, through TFDS (`imagenet2012`).

The set is prepared once, with TensorFlow and a manual download: docs/data.md has the commands.
"""

import ml_collections

from uctgan_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=256)
    config.compute_dtype = "bfloat16"
    config.data.source = "tfds:imagenet2012"
    config.mask.kind = "free_form"
    config.mask.hole_share = (0.1, 0.5)
    return config
