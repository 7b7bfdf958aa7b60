"""Holes: which pixels are missing. Masks are uint8 {0, 1} [S, S, 1] with 1 = hole.

Every mask comes from the generator it is given and nothing else, so it is reproducible by element.

Kinds (`MASK_KINDS`):
  center     the square in the middle of the region, with a share from `hole_share`
  window     the whole region, whatever `hole_share` says
  box        a rectangle anywhere in the region, between 1:2 and 2:1 where it fits
  free_form  wandering brush strokes in the region; exactly the drawn share, to the pixel
"""

import math

import cv2
import numpy as np

MASK_KINDS = ("center", "window", "box", "free_form")
WHOLE = (0.0, 0.0, 1.0, 1.0)


def draw_mask(
    rng: np.random.Generator,
    *,
    kind: str,
    image_size: int,
    hole_share: tuple[float, float],
    region: tuple[float, float, float, float] = WHOLE,
) -> np.ndarray:
    """Draw one mask: uint8 {0, 1} [image_size, image_size, 1], 1 = hole.

    Args:
      kind: one of `MASK_KINDS`.
      hole_share: (lowest, highest) share of the picture's area; uniform in between. Sides of
        `center` and `box` are whole pixels, so their share is the nearest possible one.
      region: (top, left, bottom, right) as fractions of the side: holes lie within.

    Raises: ValueError as `check_mask_options`.
    """
    check_mask_options(kind=kind, image_size=image_size, hole_share=hole_share, region=region)
    top, left, bottom, right = _pixels(region, image_size)
    height, width = bottom - top, right - left
    mask = np.zeros((image_size, image_size, 1), np.uint8)
    if kind == "window":
        mask[top:bottom, left:right] = 1
        return mask
    area = rng.uniform(*hole_share) * image_size**2
    if kind == "free_form":
        mask[top:bottom, left:right, 0] = _strokes(rng, height, width, max(1, round(area)))
        return mask
    if kind == "center":
        h = w = max(1, round(math.sqrt(area)))
        h, w = min(h, height), min(w, width)
        y, x = (height - h) // 2, (width - w) // 2
    else:
        h, w = _box_sides(rng, area, height, width)
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    mask[top + y : top + y + h, left + x : left + x + w] = 1
    return mask


def check_mask_options(
    *,
    kind: str,
    image_size: int,
    hole_share: tuple[float, float],
    region: tuple[float, float, float, float] = WHOLE,
) -> None:
    """Raise ValueError for an unknown kind, or a hole that is empty, whole or does not fit."""
    if kind not in MASK_KINDS:
        raise ValueError(f"Unknown mask kind {kind!r}: must be one of {', '.join(MASK_KINDS)}.")
    if len(region) != 4 or not (
        0 <= region[0] < region[2] <= 1 and 0 <= region[1] < region[3] <= 1
    ):
        raise ValueError(
            f"Mask region {tuple(region)} must be (top, left, bottom, right) fractions of the "
            "picture with 0 <= top < bottom <= 1 and 0 <= left < right <= 1."
        )
    top, left, bottom, right = _pixels(region, image_size)
    height, width = bottom - top, right - left
    if height < 1 or width < 1:
        raise ValueError(f"Mask region {tuple(region)} holds no pixel at image_size {image_size}.")
    if kind == "window":
        if height * width == image_size**2:
            raise ValueError(f"Mask region {tuple(region)} is the whole picture: nothing is known.")
        return
    if len(hole_share) != 2 or not 0 < hole_share[0] <= hole_share[1] < 1:
        raise ValueError(
            f"hole_share {tuple(hole_share)} must be (lowest, highest) with "
            "0 < lowest <= highest < 1."
        )
    room = min(height, width) ** 2 if kind == "center" else height * width
    # Half a pixel's width of slack: sides are whole pixels.
    if hole_share[1] * image_size**2 > room + max(height, width) / 2:
        what = "largest square in the mask region" if kind == "center" else "mask region"
        raise ValueError(
            f"hole_share {tuple(hole_share)} does not fit: the {what} {tuple(region)} has a share "
            f"of {room / image_size**2:.3f}."
        )


def _pixels(region: tuple[float, float, float, float], image_size: int) -> tuple[int, ...]:
    return tuple(round(fraction * image_size) for fraction in region)


def _box_sides(
    rng: np.random.Generator, area: float, height: int, width: int
) -> tuple[int, int]:
    """Sides of a rectangle of this area that fits, its log aspect ratio uniform in 1:2 .. 2:1."""
    aspect = 2.0 ** rng.uniform(-1, 1)  # height : width
    # Where that does not fit, the nearest aspect ratio that does.
    h = np.clip(math.sqrt(area * aspect), area / width, height)
    h = int(np.clip(round(h), 1, height))
    return h, int(np.clip(round(area / h), 1, width))


def _strokes(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """Brush strokes over exactly `count` of height x width pixels: uint8 {0, 1}.

    Each stroke is a walk of straight segments with round joints. The last segment is cut short:
    of the pixels it adds, those nearest its start are kept.
    """
    count = min(count, height * width)
    hole = np.zeros((height, width), np.uint8)
    # A brush in proportion to the hole, so that small and large holes both take several strokes.
    brush = max(1.0, math.sqrt(count) / 3)
    side = min(height, width)
    covered = 0
    while covered < count:
        y, x = rng.uniform(0, height), rng.uniform(0, width)
        angle = rng.uniform(0, 2 * math.pi)
        thickness = max(1, round(brush * rng.uniform(0.5, 1.2)))
        for _ in range(rng.integers(2, 7)):
            angle += rng.normal(0, 0.9)
            length = side * rng.uniform(0.1, 0.35)
            to_y = float(np.clip(y + length * math.sin(angle), 0, height - 1))
            to_x = float(np.clip(x + length * math.cos(angle), 0, width - 1))
            before = hole.copy()
            cv2.line(hole, (int(x), int(y)), (int(to_x), int(to_y)), 1, thickness)
            covered = int(np.count_nonzero(hole))
            if covered >= count:
                rows, columns = np.nonzero(hole > before)
                distance = (rows - y) ** 2 + (columns - x) ** 2
                surplus = np.argsort(distance, kind="stable")[len(rows) - (covered - count) :]
                hole[rows[surplus], columns[surplus]] = 0
                break
            y, x = to_y, to_x
    return hole
