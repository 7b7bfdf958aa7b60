"""The page's example pictures, each with a hole."""

from pathlib import Path

import numpy as np

import uctgan_jax
from uctgan_jax.data.masks import MaskOptions, draw_mask
from uctgan_jax.inpainting.image_file import Picture, read_picture

PORTRAITS = Path(uctgan_jax.__file__).parent / "portraits" / "test"

Example = tuple[Picture, np.ndarray]

# What models know, by `data.source` of their configs.
_SUBJECTS = {
    "avatars": "cartoon portraits",
    "folder:faces128": "photographs of faces from the front",
}

# Some of the test portraits, chosen to differ.
_CARTOONS = (11, 15, 0, 28, 45, 53)


def examples(source: str, size: int) -> list[Example]:
    """Pictures of the kind that a model knows, each with a mask.

    Args:
        source: `data.source` of the model's config.
        size: the side of its pictures, in pixels.

    Returns:
        Pictures, each with its mask, uint8 [H, W], 1 = hole. None of cartoons without the extra
        `avatars`.
    """
    return _cartoons(size) if source == "avatars" else _photographs()


def subject(source: str) -> str:
    """What a model is good for, to stand after "it completes"."""
    return _SUBJECTS.get(source, "pictures like those that it was trained on")


def _photographs() -> list[Example]:
    """Portraits of 64 px, with a hole from the eyes to the mouth."""
    pictures = [read_picture(path) for path in sorted(PORTRAITS.glob("*.png"))]
    center = MaskOptions("center", hole_share=(0.25, 0.25))
    rng = np.random.default_rng(0)
    return [
        (picture, draw_mask(rng, center, image_size=len(picture.pixels))[..., 0])
        for picture in pictures
    ]


def _cartoons(size: int) -> list[Example]:
    """Cartoon portraits without their faces."""
    try:
        from uctgan_jax.avatars.dataset import render, sample_attributes
        from uctgan_jax.avatars.posterior import FACE_WINDOW
    except ImportError:
        return []
    window = MaskOptions("window", region=FACE_WINDOW)
    face = draw_mask(np.random.default_rng(0), window, image_size=size)[..., 0]
    portraits = [render(sample_attributes("test", index), size) for index in _CARTOONS]
    return [(Picture(image, image), face) for image in portraits]
