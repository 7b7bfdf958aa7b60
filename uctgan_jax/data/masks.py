"""Holes: which pixels are missing. Masks are uint8 {0, 1} [S, S, 1] with 1 = hole.

Every mask comes from the generator it is given and nothing else, so it is reproducible by element.

Kinds (`MASK_KINDS`); all lie within a region of the picture:
  center            the square in the middle
  window            the whole region
  box               a rectangle anywhere, between 1:2 and 2:1 where it fits
  boxes             two to five such rectangles, which may overlap
  free_form         wandering brush strokes
  blobs             one to three smooth shapes, like objects cut out
  half              the left, right, upper or lower half
  border            everything but a rectangle in the middle: outpainting
  every_other_line  every second row
The share of the hole is drawn from `hole_share`, exact to the pixel for free forms and blobs and
nearly so (whole sides) for rectangles; `window`, `half` and `every_other_line` do not look at it.

Masks from files are in `mask_folder.py`.
"""

import math

import cv2
import numpy as np

MASK_KINDS = (
    "center", "window", "box", "boxes", "free_form", "blobs", "half", "border", "every_other_line",
)  # fmt: skip
_FIXED_SHARE = ("window", "half", "every_other_line")
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
      hole_share: (lowest, highest) share of the picture's area; uniform in between.
      region: (top, left, bottom, right) as fractions of the side: holes lie within.

    Raises: ValueError as `check_mask_options`.
    """
    check_mask_options(kind=kind, image_size=image_size, hole_share=hole_share, region=region)
    top, left, bottom, right = _pixels(region, image_size)
    height, width = bottom - top, right - left
    if kind in _FIXED_SHARE:
        hole = _fixed(rng, kind, height, width)
    else:
        area = rng.uniform(*hole_share) * image_size**2
        count = min(max(1, round(area)), height * width)
        if kind == "free_form":
            hole = _strokes(rng, height, width, count)
        elif kind == "blobs":
            hole = _blobs(rng, height, width, count)
        elif kind == "border":
            hole = _border(height, width, count)
        elif kind == "boxes":
            lowest = hole_share[0] * image_size**2
            hole = _boxes(rng, height, width, count, lowest)
        else:
            hole = np.zeros((height, width), np.uint8)
            if kind == "center":
                side = min(max(1, round(math.sqrt(area))), height, width)
                y, x = (height - side) // 2, (width - side) // 2
                hole[y : y + side, x : x + side] = 1
            else:
                _add_box(rng, hole, area)
    mask = np.zeros((image_size, image_size, 1), np.uint8)
    mask[top:bottom, left:right, 0] = hole
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
        raise ValueError(
            f"Unknown mask kind {kind!r}: must be one of {', '.join(MASK_KINDS)}, folder:PATH or "
            "paired:PATH."
        )
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
    if kind == "window" and height * width == image_size**2:
        raise ValueError(f"Mask region {tuple(region)} is the whole picture: nothing is known.")
    if kind in _FIXED_SHARE:
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


def _fixed(rng: np.random.Generator, kind: str, height: int, width: int) -> np.ndarray:
    hole = np.ones((height, width), np.uint8)
    if kind == "half":
        known = (
            np.s_[:, width // 2 :],
            np.s_[:, : width // 2],
            np.s_[height // 2 :],
            np.s_[: height // 2],
        )
        hole[known[rng.integers(0, 4)]] = 0
    elif kind == "every_other_line":
        hole[::2] = 0
    return hole


def _border(height: int, width: int, count: int) -> np.ndarray:
    """All but a rectangle in the middle, of the region's own proportions."""
    known = height * width - count
    h = max(1, round(height * math.sqrt(known / (height * width))))
    w = min(round(known / h), width)
    y, x = (height - h) // 2, (width - w) // 2
    hole = np.ones((height, width), np.uint8)
    hole[y : y + h, x : x + w] = 0
    return hole


def _add_box(rng: np.random.Generator, hole: np.ndarray, area: float) -> None:
    """Put a rectangle of this area anywhere; its log aspect ratio is uniform in 1:2 .. 2:1.

    Where that does not fit, the nearest aspect ratio that does.
    """
    height, width = hole.shape
    aspect = 2.0 ** rng.uniform(-1, 1)  # height : width
    h = int(np.clip(round(np.clip(math.sqrt(area * aspect), area / width, height)), 1, height))
    w = int(np.clip(round(area / h), 1, width))
    y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    hole[y : y + h, x : x + w] = 1


def _boxes(
    rng: np.random.Generator, height: int, width: int, count: int, lowest: float
) -> np.ndarray:
    """Two to five rectangles, more if overlaps leave less than `lowest` pixels covered."""
    hole = np.zeros((height, width), np.uint8)
    planned = int(rng.integers(2, 6))
    while planned > 0 or hole.sum() < lowest:
        # No box is larger than what is missing, so overlaps can only leave the hole too small.
        missing = count - int(hole.sum())
        if missing < 1:
            break
        _add_box(rng, hole, max(1, missing / max(1, planned)))
        planned -= 1
    return hole


def _blobs(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """One to three smooth shapes over exactly `count` of height x width pixels.

    Each is a centre and a radius that varies smoothly with the angle; the pixels nearest to a
    centre in units of that radius are the hole.
    """
    # Smooth shapes need no fine grid: 64 pixels, enlarged, are several times faster at 256.
    scale = max(1.0, max(height, width) / 64)
    y, x = np.mgrid[: math.ceil(height / scale), : math.ceil(width / scale)].astype(np.float32)
    nearest = np.full(y.shape, np.inf, np.float32)
    for _ in range(rng.integers(1, 4)):
        dy, dx = y - rng.uniform(0, y.shape[0]), x - rng.uniform(0, y.shape[1])
        angle = np.arctan2(dy, dx)
        radius = np.full(y.shape, rng.uniform(0.6, 1.4), np.float32)
        for frequency in range(2, 6):
            phase = rng.uniform(0, 2 * math.pi)
            radius *= 1 + rng.uniform(0, 0.6 / frequency) * np.cos(frequency * angle + phase)
        nearest = np.minimum(nearest, np.hypot(dy, dx) / radius)
    nearest = cv2.resize(nearest, (width, height), interpolation=cv2.INTER_CUBIC)
    hole = np.zeros(height * width, np.uint8)
    hole[np.argpartition(nearest.ravel(), count - 1)[:count]] = 1
    return hole.reshape(height, width)


def _strokes(rng: np.random.Generator, height: int, width: int, count: int) -> np.ndarray:
    """Brush strokes over exactly `count` of height x width pixels: uint8 {0, 1}.

    Each stroke is a walk of straight segments with round joints. The last segment is cut short:
    of the pixels it adds, those nearest its start are kept.
    """
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
            to_y = min(max(y + length * math.sin(angle), 0.0), height - 1.0)
            to_x = min(max(x + length * math.cos(angle), 0.0), width - 1.0)
            # All that the segment can touch: the rest of the picture need not be looked at.
            rows = slice(max(0, int(min(y, to_y)) - thickness), int(max(y, to_y)) + thickness + 1)
            columns = slice(
                max(0, int(min(x, to_x)) - thickness), int(max(x, to_x)) + thickness + 1
            )
            touched = hole[rows, columns]
            before = touched.copy()
            cv2.line(hole, (int(x), int(y)), (int(to_x), int(to_y)), 1, thickness)
            covered += np.count_nonzero(touched) - np.count_nonzero(before)
            if covered >= count:
                surplus = covered - count
                if surplus:
                    new_y, new_x = np.nonzero(touched > before)
                    distance = (new_y + rows.start - y) ** 2 + (new_x + columns.start - x) ** 2
                    last = np.argpartition(distance, len(distance) - surplus)[-surplus:]
                    touched[new_y[last], new_x[last]] = 0
                break
            y, x = to_y, to_x
    return hole
