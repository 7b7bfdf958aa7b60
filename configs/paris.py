"""Paris StreetView at 256 px with the centre hole of the paper: 14,900 + 100 facades.

Its authors give the pictures on request; put them into data/paris/train and data/paris/test, or
say where they are: `--config.data.source=folder:PATH`.
"""

import ml_collections

from uctgan_jax.configs import default


def get_config() -> ml_collections.ConfigDict:
    config = default.get_config(image_size=256)
    config.compute_dtype = "bfloat16"
    config.data.source = "folder:data/paris"
    return config
