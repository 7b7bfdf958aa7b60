"""The page's example pictures, each with a hole."""

import numpy as np

from uctgan_jax.data.masks import MaskOptions, draw_mask
from uctgan_jax.inpainting.image_file import Picture

# Some of the test portraits, chosen to differ.
_PORTRAITS = (11, 15, 0, 28, 45, 53)


def examples(size: int) -> list[tuple[Picture, np.ndarray]]:
    """Cartoon portraits with masks of their faces; none without the extra `avatars`.

    Args:
        size: the side of the portraits, in pixels.

    Returns:
        Pictures [size, size, 3], each with its mask, uint8 [size, size], 1 = hole.
    """
    try:
        from uctgan_jax.avatars.dataset import render, sample_attributes
        from uctgan_jax.avatars.posterior import FACE_WINDOW
    except ImportError:
        return []
    window = MaskOptions("window", region=FACE_WINDOW)
    face = draw_mask(np.random.default_rng(0), window, image_size=size)[..., 0]
    portraits = [render(sample_attributes("test", index), size) for index in _PORTRAITS]
    return [(Picture(image, image), face) for image in portraits]
