"""Holes: which pixels are missing. Masks are uint8 {0, 1} [S, S, 1] with 1 = hole.

Every mask comes from the row of uniform numbers it is given and nothing else, so it is reproducible
by element; a batch of masks is drawn at once, which is several times faster than one by one.

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
Several kinds, "free_form,box", are drawn equally often; one named twice, twice as often.

Masks from files are in `mask_folder.py`.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np

from uctgan_jax.files import typed_path

MASK_KINDS = (
    "center", "window", "box", "boxes", "free_form", "blobs", "half", "border", "every_other_line",
)  # fmt: skip
_FILE_KINDS = ("folder", "paired")  # before a colon and a path, see `mask_folder`
# Of these the share of the region is known, and `hole_share` is not looked at.
_FIXED_SHARES = {"window": 1.0, "half": 0.5, "every_other_line": 0.5}
WHOLE = (0.0, 0.0, 1.0, 1.0)

_STROKES = 12  # at most, in a free form
_SEGMENTS = 6  # at most, in a stroke
_BOXES = 50  # at most, of several
_BLOBS = 3
_WAVES = (2, 3, 4, 5)  # in the outline of a blob
# How many uniform numbers a mask takes: the share's, and those of the kind that needs most.
NUMBERS = 1 + _STROKES * (5 + 2 * _SEGMENTS)


@dataclasses.dataclass(frozen=True)
class MaskOptions:
    """Which holes to make.

    Attributes:
      kind: one of `MASK_KINDS` or several with commas in between, or mask files: "folder:PATH" or
        "paired:PATH".
      hole_share: (lowest, highest) share of the picture's area; uniform in between.
      region: (top, left, bottom, right) as fractions of the side: drawn holes lie within.
      convention: of mask files: "white_is_hole" or "black_is_hole".
    """

    kind: str
    hole_share: tuple[float, float] = (0.25, 0.25)
    region: tuple[float, float, float, float] = WHOLE
    convention: str = "white_is_hole"


def draw_mask(rng: np.random.Generator, options: MaskOptions, *, image_size: int) -> np.ndarray:
    """Draw one mask: uint8 {0, 1} [image_size, image_size, 1], 1 = hole.

    Raises: ValueError as `draw_masks`.
    """
    return draw_masks(rng.random((1, NUMBERS)), options, image_size=image_size)[0]


def draw_masks(
    numbers: np.ndarray, options: MaskOptions, *, image_size: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Draw masks: uint8 {0, 1} [B, image_size, image_size, 1], 1 = hole.

    Args:
      numbers: uniform in [0, 1), float64 [B, NUMBERS]. Row b alone determines mask b.
      out: the array to draw in and return; default a new one.

    Raises: ValueError for an unknown kind, or a hole that is empty, whole or does not fit.
    """
    _check_drawn(options, image_size=image_size)
    masks = np.empty((len(numbers), image_size, image_size, 1), np.uint8) if out is None else out
    masks[:] = 0
    top, left, bottom, right = _pixels(options.region, image_size)
    region = masks[:, top:bottom, left:right, 0]
    kinds = options.kind.split(",")
    limits = tuple(share * image_size**2 for share in options.hole_share)
    if len(kinds) == 1:
        _draw_holes(region, numbers, options.kind, limits)  # in place: copies take as long again
        return masks
    # The number of the share tells the kind too: what is left of it is as uniform.
    places = numbers[:, 0] * len(kinds)
    for place, kind in enumerate(kinds):
        (rows,) = np.nonzero(places.astype(int) == place)
        if not len(rows):
            continue
        holes = np.zeros((len(rows), *region.shape[1:]), np.uint8)
        _draw_holes(holes, np.column_stack([places[rows] - place, numbers[rows, 1:]]), kind, limits)
        region[rows] = holes
    return masks


def _draw_holes(
    holes: np.ndarray, numbers: np.ndarray, kind: str, limits: tuple[float, float]
) -> None:
    """Draw holes of one kind, of `limits` pixels, in the region of empty masks: [B, h, w]."""
    height, width = holes.shape[1:]
    lowest, highest = limits
    areas = lowest + (highest - lowest) * numbers[:, 0]
    counts = np.clip(np.rint(areas), 1, height * width).astype(np.int64)
    numbers = numbers[:, 1:]
    if kind == "free_form":
        _draw_strokes(holes, numbers, counts)
    elif kind == "blobs":
        _draw_blobs(holes, numbers, counts)
    elif kind == "boxes":
        _draw_boxes(holes, numbers, counts, lowest)
    elif kind == "box":
        holes[:] = _rectangles(*_place_boxes(numbers, areas, height, width), height, width)
    elif kind == "center":
        sides = np.clip(np.rint(np.sqrt(areas)), 1, min(height, width)).astype(np.int64)
        top, left = (height - sides) // 2, (width - sides) // 2
        holes[:] = _rectangles(top, left, sides, sides, height, width)
    elif kind == "border":
        holes[:] = _borders(counts, height, width)
    elif kind == "half":
        holes[:] = _halves(numbers[:, 0], height, width)
    elif kind == "every_other_line":
        holes[:, 1::2] = 1
    else:  # window
        holes[:] = 1


def least_hole_share(options: MaskOptions) -> float:
    """The least share of the picture that a hole has; 0 if only files could tell."""
    kind, _, path = options.kind.partition(":")
    if path:
        return 0.0 if kind == "paired" else options.hole_share[0]
    top, left, bottom, right = options.region
    area = (bottom - top) * (right - left)
    return min(
        _FIXED_SHARES[kind] * area if kind in _FIXED_SHARES else options.hole_share[0]
        for kind in options.kind.split(",")
    )


def check_mask_options(options: MaskOptions, *, image_size: int, zoom: float = 1.0) -> None:
    """What is wrong with options that can be told before a mask is read or drawn.

    Raises: ValueError as `draw_masks`, for drawn holes that come out empty or cover everything, for
      mask files without a path, for those of whole pictures where these are cut (`zoom` over 1),
      and for shares out of their range; FileNotFoundError for a folder that is missing.
    """
    kind, _, path = options.kind.partition(":")
    if zoom > 1 and kind == "paired":
        raise ValueError(
            f"zoom ({zoom}) must be 1 with masks {options.kind!r}: they belong to whole pictures"
        )
    if kind not in _FILE_KINDS:
        _check_drawn(options, image_size=image_size)
        for each in options.kind.split(","):
            _check_holes(dataclasses.replace(options, kind=each), image_size)
        return
    if not path:
        raise ValueError(f"Mask kind {options.kind!r} must name a folder: {kind}:PATH.")
    if not typed_path(path).is_dir():
        raise FileNotFoundError(f"Mask folder {path!r} does not exist.")
    check_hole_share(options.hole_share)


def _check_holes(options: MaskOptions, image_size: int) -> None:
    """Draws the least and the largest hole of a kind, and some between, and looks at them."""
    numbers = np.random.default_rng(0).random((16, NUMBERS))
    numbers[0], numbers[1] = 0.0, 1.0 - 1e-9
    for count in draw_masks(numbers, options, image_size=image_size).sum(axis=(1, 2, 3)).tolist():
        if not 0 < count < image_size**2:
            raise ValueError(
                f"mask kind {options.kind!r} with hole_share {tuple(options.hole_share)} draws a "
                f"hole of {count} of {image_size**2} pixels: it must be neither empty nor all"
            )


def check_hole_share(hole_share: Sequence[float]) -> None:
    """Raise ValueError unless it is (lowest, highest)."""
    if len(hole_share) != 2 or not 0 <= hole_share[0] <= hole_share[1] <= 1:
        raise ValueError(
            f"hole_share {tuple(hole_share)} must be (lowest, highest) with "
            "0 <= lowest <= highest <= 1."
        )


def _check_drawn(options: MaskOptions, *, image_size: int) -> None:
    """Raise ValueError for holes that cannot be drawn."""
    region = options.region
    if len(region) != 4 or not (
        0 <= region[0] < region[2] <= 1 and 0 <= region[1] < region[3] <= 1
    ):
        raise ValueError(
            f"Mask region {tuple(region)} must be (top, left, bottom, right) fractions of the "
            "picture with 0 <= top < bottom <= 1 and 0 <= left < right <= 1."
        )
    top, left, bottom, right = _pixels(region, image_size)
    if top == bottom or left == right:
        raise ValueError(f"Mask region {tuple(region)} holds no pixel at image_size {image_size}.")
    check_hole_share(options.hole_share)
    for kind in options.kind.split(","):
        _check_kind(kind, options, bottom - top, right - left, image_size)


def _check_kind(kind: str, options: MaskOptions, height: int, width: int, image_size: int) -> None:
    """Raise ValueError if there is no such kind, or it does not fit in the region."""
    hole_share, region = options.hole_share, options.region
    if kind not in MASK_KINDS:
        raise ValueError(
            f"Unknown mask kind {kind!r}: must be one of {', '.join(MASK_KINDS)} or several with "
            "commas in between, or folder:PATH or paired:PATH alone."
        )
    if kind == "window" and height * width == image_size**2:
        raise ValueError(f"Mask region {tuple(region)} is the whole picture: nothing is known.")
    if kind in _FIXED_SHARES:
        return
    if not 0 < hole_share[0] <= hole_share[1] < 1:
        raise ValueError(
            f"hole_share {tuple(hole_share)} must have 0 < lowest and highest < 1: no hole is empty"
            " or all of the picture."
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


def _rectangles(
    top: np.ndarray,
    left: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    height: int,
    width: int,
) -> np.ndarray:
    """Filled rectangles, one a row of the arguments [B]: uint8 {0, 1} [B, height, width]."""
    y, x = np.arange(height), np.arange(width)
    rows = (y >= top[:, None]) & (y < (top + heights)[:, None])
    columns = (x >= left[:, None]) & (x < (left + widths)[:, None])
    return (rows[:, :, None] & columns[:, None, :]).view(np.uint8)


def _halves(numbers: np.ndarray, height: int, width: int) -> np.ndarray:
    """The left, right, upper or lower half."""
    y, x = height // 2, width // 2
    halves = np.array(
        [[0, 0, height, x], [0, x, height, width - x], [0, 0, y, width], [y, 0, height - y, width]]
    )
    return _rectangles(*halves[(numbers * 4).astype(int)].T, height, width)


def _borders(counts: np.ndarray, height: int, width: int) -> np.ndarray:
    """All but a rectangle in the middle, of the region's own proportions."""
    known = height * width - counts
    h = np.maximum(1, np.rint(height * np.sqrt(known / (height * width)))).astype(np.int64)
    w = np.minimum(np.rint(known / h), width).astype(np.int64)
    return 1 - _rectangles((height - h) // 2, (width - w) // 2, h, w, height, width)


def _place_boxes(
    numbers: np.ndarray, areas: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A rectangle of each area anywhere; its log aspect ratio is uniform in 1:2 .. 2:1.

    Where that does not fit, the nearest aspect ratio that does. Returns top, left, height and
    width, integers [B].
    """
    aspect = 2.0 ** (2 * numbers[:, 0] - 1)  # height : width
    h = np.clip(np.sqrt(areas * aspect), areas / width, height)
    h = np.clip(np.rint(h), 1, height).astype(np.int64)
    w = np.clip(np.rint(areas / h), 1, width).astype(np.int64)
    top = (numbers[:, 1] * (height - h + 1)).astype(np.int64)
    left = (numbers[:, 2] * (width - w + 1)).astype(np.int64)
    return top, left, h, w


def _draw_boxes(holes: np.ndarray, numbers: np.ndarray, counts: np.ndarray, lowest: float) -> None:
    """Two to five rectangles, more if overlaps leave less than nine tenths of `counts` covered.

    In any case, `lowest` pixels or more.
    """
    height, width = holes.shape[1:]
    covered = np.zeros(len(numbers), np.int64)
    planned = 2 + (numbers[:, 0] * 4).astype(np.int64)
    enough = np.maximum(0.9 * counts, lowest)
    for i in range(_BOXES):
        # No box is larger than what is missing, so overlaps can only leave the hole too small.
        missing = counts - covered
        (rows,) = np.nonzero((missing >= 1) & ((i < planned) | (covered < enough)))
        if not len(rows):
            return
        areas = np.maximum(1, missing[rows] / np.maximum(1, planned[rows] - i))
        boxes = _place_boxes(numbers[rows, 1 + 3 * i : 4 + 3 * i], areas, height, width)
        for row, top, left, h, w in np.stack([rows, *boxes], axis=-1).tolist():
            holes[row, top : top + h, left : left + w] = 1
            covered[row] = cv2.countNonZero(holes[row])
    for hole in holes:
        _fill(hole, math.ceil(lowest))


def _fill(hole: np.ndarray, count: int) -> None:
    """Fill up to `count` pixels, from the top: for holes so large that drawing does not end."""
    missing = count - cv2.countNonZero(hole)
    if missing > 0:
        hole.flat[np.flatnonzero(hole == 0)[:missing]] = 1


def _draw_blobs(holes: np.ndarray, numbers: np.ndarray, counts: np.ndarray) -> None:
    """One to three smooth shapes over exactly `count` pixels.

    Each is a centre and a radius that varies smoothly with the angle; the pixels nearest to a
    centre in units of that radius are the hole.
    """
    # Smooth shapes need no fine grid: 32 pixels are enlarged.
    height, width = holes.shape[1:]
    scale = max(1.0, max(height, width) / 32)
    y, x = np.mgrid[: math.ceil(height / scale), : math.ceil(width / scale)].astype(np.float32)
    nearest = np.full((len(numbers), *y.shape), np.inf, np.float32)
    blobs = (numbers[:, 0] * _BLOBS).astype(np.int64) + 1
    per_blob = 3 + 2 * len(_WAVES)
    for i in range(_BLOBS):
        (rows,) = np.nonzero(blobs > i)
        mine = numbers[rows, 1 + i * per_blob :][:, :per_blob, None, None].astype(np.float32)
        dy, dx = y - mine[:, 0] * y.shape[0], x - mine[:, 1] * y.shape[1]
        distance = np.hypot(dy, dx)
        # Powers of the direction as a complex number have the cosines of its multiples.
        direction = (dx + 1j * dy) / np.maximum(distance, 1e-6)
        power = direction
        radius = 0.6 + 0.8 * mine[:, 2]
        for j, waves in enumerate(_WAVES):
            power = power * direction
            phase = np.exp(2j * np.pi * mine[:, 3 + 2 * j])
            radius = radius * (1 + 0.6 / waves * mine[:, 4 + 2 * j] * (power * phase).real)
        nearest[rows] = np.minimum(nearest[rows], distance / radius)
    for hole, coarse, count in zip(holes, nearest, counts.tolist(), strict=True):
        fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        # Sorting all pixels would take most of the time: only those near the coarse outline are.
        rank = min(count * coarse.size // fine.size, coarse.size - 1)
        limit = np.partition(coarse, rank, axis=None)[rank]
        inside = fine < 0.8 * limit
        near = np.flatnonzero((fine < 1.25 * limit) & ~inside)
        missing = count - np.count_nonzero(inside)
        if not 0 < missing <= len(near):  # the coarse outline was not good enough
            inside[:] = False
            near, missing = np.arange(fine.size), count
        hole[:] = inside
        hole.flat[near[np.argpartition(fine.flat[near], missing - 1)[:missing]]] = 1


def _draw_strokes(holes: np.ndarray, numbers: np.ndarray, counts: np.ndarray) -> None:
    """Brush strokes over exactly `count` pixels.

    Each stroke is a walk of straight segments with round joints. The last stroke is cut straight
    where the count is reached.
    """
    height, width = holes.shape[1:]
    numbers = numbers[:, : _STROKES * (5 + 2 * _SEGMENTS)].reshape(len(numbers), _STROKES, -1)
    numbers = numbers.astype(np.float32)  # for faster sines
    # A brush in proportion to the hole, so that small and large holes both take several strokes.
    brush = np.maximum(1.0, np.sqrt(counts) / 3)[:, None]
    thickness = np.maximum(1, np.rint(brush * (0.5 + 0.7 * numbers[..., 3]))).astype(int)
    segments = (numbers[..., 4] * (_SEGMENTS - 1)).astype(int) + 2
    turns = 3.1 * (numbers[..., 5 : 5 + _SEGMENTS] - 0.5)
    angles = 2 * np.pi * numbers[..., 2:3] + np.cumsum(turns, axis=-1)
    lengths = min(height, width) * (0.1 + 0.25 * numbers[..., 5 + _SEGMENTS :])
    steps = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * lengths[..., None]
    at = numbers[..., 1::-1] * (width, height)  # x, y as OpenCV has it
    walks = np.empty((*at.shape[:2], _SEGMENTS + 1, 2), np.int32)
    walks[:, :, 0] = at
    for i in range(_SEGMENTS):
        at = np.clip(at + steps[:, :, i], 0, (width - 1, height - 1))
        walks[:, :, i + 1] = at
    # The first strokes cannot cover too much, wherever they lie, and need no counting: a stroke's
    # area is at most that of a straight one.
    drawn = (lengths * (np.arange(_SEGMENTS) < segments[..., None])).sum(axis=-1)
    broad = thickness + 1.5  # in whole pixels
    areas = drawn * broad + math.pi / 4 * broad**2
    safe = (areas.cumsum(axis=-1) <= counts[:, None]).sum(axis=-1)
    before = np.empty((height, width), np.uint8)
    for hole, strokes, ends, pixels, few, count in zip(
        holes,
        walks,
        (segments + 1).tolist(),
        thickness.tolist(),
        safe.tolist(),
        counts.tolist(),
        strict=True,
    ):
        for i in range(_STROKES):
            if i >= few:
                before[:] = hole
            cv2.polylines(hole, strokes[i : i + 1, : ends[i]], False, 1, pixels[i])
            if i >= few and (surplus := cv2.countNonZero(hole) - count) >= 0:
                if surplus:  # Cut straight across: take back what is lowest of the last stroke.
                    added = cv2.findNonZero(cv2.subtract(hole, before))
                    x, y = added.reshape(-1, 2)[-surplus:].T
                    hole[y, x] = 0
                break
        _fill(hole, count)
