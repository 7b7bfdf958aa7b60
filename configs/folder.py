"""Any folder of pictures, with free-form holes.

    python train.py --config=configs/folder.py:64 --workdir=runs/mine \\
        --config.data.source=folder:PATH

The number is the side in pixels: 32, 64, 128 or 256 (default).
"""

import ml_collections

from uctgan_jax.configs import default


def get_config(image_size: str = "256") -> ml_collections.ConfigDict:
    config = default.get_config(image_size)
    config.mask.kind = "free_form"
    config.mask.hole_share = (0.1, 0.5)
    return config
