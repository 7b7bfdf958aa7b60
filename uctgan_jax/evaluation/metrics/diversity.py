"""How much K completions of the *same* input differ from each other.

Following PIC (Zheng et al. 2019), quoted in its issue 59: the mean LPIPS (AlexNet) over pairs of
completions of one picture, then over pictures. "I_out" measures whole pictures; "I_out(m)" the
hole's bounding box, *cropped*, not the picture with its known part zeroed.

Noise raises every figure here: read them beside a figure of realism.
"""

import itertools
import math

import cv2
import numpy as np

from uctgan_jax.evaluation.metrics import pixel
from uctgan_jax.evaluation.metrics.lpips import lpips_pairs

ENLARGED_SIDE = 64  # the last maps of AlexNet and VGG16 hold little of smaller pictures


def select_pairs(num_samples: int, num_pairs: int | None = None, seed=0) -> np.ndarray:
    """Which pairs of `num_samples` completions to compare: int32 [P, 2], i < j, none twice.

    All K (K - 1) / 2 pairs, in order; or `num_pairs` of them, drawn without replacement by `seed`
    (an integer or a sequence of them, as `np.random.default_rng` takes).

    Raises:
        ValueError: `num_samples` below 2, or `num_pairs` outside 1 ... K (K - 1) / 2.
    """
    if num_samples < 2:
        raise ValueError(f"Diversity over {num_samples} completion(s) needs at least 2.")
    pairs = np.array(list(itertools.combinations(range(num_samples), 2)), np.int32)
    if num_pairs is None:
        return pairs
    if not 1 <= num_pairs <= len(pairs):
        raise ValueError(
            f"num_pairs ({num_pairs}) must lie in 1 ... {len(pairs)}, the pairs of {num_samples}."
        )
    chosen = np.random.default_rng(seed).choice(len(pairs), num_pairs, replace=False)
    return pairs[np.sort(chosen)]


def lpips_diversity(completions, pairs) -> float:
    """I_out: mean LPIPS over `pairs` of `completions`, float32 [K, H, W, 3] in [-1, 1].

    Pictures under 64 px are first enlarged, see `enlarge`.
    """
    return float(lpips_pairs(enlarge(completions), pairs).mean())


def lpips_diversity_in_hole(completions, mask, pairs, *, size: int | None = None) -> float:
    """I_out(m): as `lpips_diversity`, on the crops that `crop_to_hole` makes."""
    return float(lpips_pairs(crop_to_hole(completions, mask, size=size), pairs).mean())


def l1_diversity_in_hole(completions, mask, pairs) -> float:
    """Mean absolute difference between pairs over the hole's pixels, on the scale [0, 1]."""
    first, second = np.asarray(completions)[pairs.T]
    return float(pixel.hole_l1(first, second, mask).mean())


def crop_to_hole(images, mask, *, size: int | None = None) -> np.ndarray:
    """The hole's bounding box, cropped from every picture of [B, H, W, 3]; mask [H, W, 1].

    Without `size` the box is left as it is, and enlarged if it is under 64 px, see `enlarge`. With
    `size` every box becomes `size` x `size` (bilinear; the shape may change). That is for masks
    whose boxes vary: each box shape would compile a network of its own. The two are different
    figures: say which one is reported.

    Raises:
        ValueError: a mask without a hole, or of another height and width than the pictures.
    """
    mask = np.asarray(mask)
    if mask.shape != (*images.shape[1:3], 1):
        raise ValueError(f"A mask of shape {mask.shape} must be {(*images.shape[1:3], 1)}.")
    rows, columns = hole_box(mask)
    crops = np.asarray(images)[:, rows, columns]
    return enlarge(crops) if size is None else _resize(crops, size, size)


def hole_box(mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the least box that holds the hole of a mask [H, W, 1].

    Raises:
        ValueError: a mask without a hole.
    """
    rows, columns = (mask[..., 0].any(axis=axis).nonzero()[0] for axis in (1, 0))
    if len(rows) == 0:
        raise ValueError("A mask without a hole (all 0) has no bounding box.")
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def enlarge(images) -> np.ndarray:
    """[B, H, W, 3] with every pixel repeated by the least factor that makes both sides >= 64 px."""
    factor = enlargement(*images.shape[1:3])
    return np.repeat(np.repeat(np.asarray(images), factor, axis=1), factor, axis=2)


def enlargement(height: int, width: int) -> int:
    """The factor that `enlarge` uses; 1 if the picture is large enough as it is."""
    return math.ceil(ENLARGED_SIDE / min(height, width))


def _resize(images, height, width):
    if images.shape[1:3] == (height, width):
        return images
    resized = [cv2.resize(i, (width, height), interpolation=cv2.INTER_LINEAR) for i in images]
    return np.clip(np.stack(resized), -1, 1)
