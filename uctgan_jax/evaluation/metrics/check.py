"""What every metric asks of its pictures and masks, asked before anything is computed."""

import numpy as np


def check_images(*images, min_size: int = 1) -> None:
    """Raises ValueError unless all `images` are alike, float32 [B, H, W, 3], finite, in [-1, 1].

    Args:
        *images: arrays (NumPy or JAX); all must have one shape.
        min_size: the least height and width, in pixels.
    """
    for array in images:
        if array.ndim != 4 or array.shape[-1] != 3 or array.size == 0:
            raise ValueError(f"Pictures of shape {array.shape} must be [B, H, W, 3], B > 0.")
        if array.shape != images[0].shape:
            raise ValueError(
                f"Pictures of shapes {images[0].shape} and {array.shape} must have one shape."
            )
        if array.dtype != np.float32:
            raise ValueError(f"Pictures of type {array.dtype} must be float32 in [-1, 1].")
        height, width = array.shape[1:3]
        if min(height, width) < min_size:
            raise ValueError(
                f"Pictures of {height} x {width} pixels must be at least {min_size} x {min_size}."
            )
        low, high = float(array.min()), float(array.max())
        # The margin is for arithmetic that rounds; a NaN fails both comparisons.
        if not (low >= -1 - 1e-4 and high <= 1 + 1e-4):
            raise ValueError(f"Pictures that range over [{low:g}, {high:g}] must lie in [-1, 1].")


def check_masks(masks, images) -> np.ndarray:
    """Returns `masks` as float32 [B, H, W, 1] for `images` [B, H, W, 3].

    Args:
        masks: [H, W, 1] (one for all pictures) or [B, H, W, 1]; 1 = hole, 0 = known.
        images: the pictures that the masks belong to.

    Raises:
        ValueError: another shape, values other than 0 and 1, or a mask without a hole.
    """
    masks = np.asarray(masks)
    expected = (*images.shape[:3], 1)
    if masks.shape not in (expected, expected[1:]):
        raise ValueError(f"Masks of shape {masks.shape} must be {expected} or {expected[1:]}.")
    if not np.isin(masks, (0, 1)).all():
        raise ValueError(f"Masks with values {np.unique(masks)[:5]} must hold 0 and 1 only.")
    masks = np.broadcast_to(masks, expected).astype(np.float32)
    if not masks.any(axis=(1, 2, 3)).all():
        raise ValueError("A mask without a hole (all 0) has no figure over its hole.")
    return masks
