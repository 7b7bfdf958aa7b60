"""Which parts of a picture the model looks at: windows around its holes.

A model completes squares of one size. Here a picture of any size with any holes becomes a list of
`Window`s, each with the part of the picture that the model sees and the hole pixels that it fills;
together they fill every hole pixel. docs/inpainting.md says by which rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from uctgan_jax.evaluation.metrics.diversity import hole_box
from uctgan_jax.images import resize

# More windows than this are too slow: fine dense holes are then seen at a lower resolution.
_MOST_WINDOWS = 512
# So many times coarser than it could be seen, a hole may be seen for the sake of fewer windows.
_COARSER = 3.0
# The rest of a window, around its hole, is context.
_MOST_OF_WINDOW = 0.75

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Window:
    """A part of a picture that the model completes at once.

    Attributes:
        box: rows and columns that the model sees.
        core: rows and columns, within the box, that hold what is filled from here.
        weights: uint8 [h, w] over the core: 0 where nothing is filled; where windows overlap, how
            much this one counts.
    """

    box: Box
    core: Box
    weights: np.ndarray


def place_windows(hole: np.ndarray, size: int, hole_share: float) -> list[Window]:
    """Windows that together fill all holes of a picture.

    Args:
        hole: uint8 {0, 1} [H, W], 1 = hole; neither empty nor full.
        size: side of the model's pictures; no window is smaller, unless the picture is.
        hole_share: the least share of a window that its hole has, where the picture is no smaller
            than the window and the hole no smaller than the model's pixels.

    Returns:
        Windows in the order of their holes, the largest first.
    """
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)  # from each hole pixel to a known one
    smallest = size
    while (windows := _place(hole, depth, smallest, hole_share)) is None:
        smallest *= 2
    return windows


def whole(hole: np.ndarray) -> Window:
    """The one window of a picture that the model sees whole."""
    core = hole_box(hole[..., None])
    return Window(np.s_[0 : hole.shape[0], 0 : hole.shape[1]], core, hole[core] * np.uint8(255))


def largest_hole(windows: list[Window]) -> int:
    """The number of the window that fills the most pixels."""
    return int(np.argmax([np.count_nonzero(window.weights) for window in windows]))


@dataclass(frozen=True)
class _Group:
    """Holes that are filled together. All lengths in pixels of the picture."""

    labels: tuple[int, ...]
    top: int
    left: int
    bottom: int
    right: int
    side: float  # of its window, or of each of its windows
    is_long: bool

    @property
    def extent(self) -> int:
        return max(self.bottom - self.top, self.right - self.left)


def _place(
    hole: np.ndarray, depth: np.ndarray, smallest: int, hole_share: float
) -> list[Window] | None:
    """Windows of at least `smallest` a side; None if there are too many."""
    height, width = hole.shape
    # Holes less than this apart are one: they share every window anyhow.
    block = max(1, smallest // 8)
    labels, count = ndimage.label(_block_max(hole, block), np.ones((3, 3)))
    if count > 4 * _MOST_WINDOWS and smallest < max(hole.shape):
        return None
    numbers = np.arange(1, count + 1)
    deepest = ndimage.maximum(_block_max(depth, block), labels, numbers)
    areas = ndimage.sum_labels(_block_sum(hole, block), labels, numbers)
    groups = []
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        edges = (rows.start, columns.start, rows.stop, columns.stop)
        top, left, bottom, right = (block * edge for edge in edges)
        bottom, right = min(bottom, height), min(right, width)
        extent = max(bottom - top, right - left)
        area, thickness = areas[label - 1], 2 * deepest[label - 1]
        whole = max(smallest, math.sqrt(area / hole_share), extent / _MOST_OF_WINDOW)
        part = max(smallest, thickness / math.sqrt(hole_share))
        is_long = min(whole, max(hole.shape)) > _COARSER * part
        side = part if is_long else whole
        groups.append(_Group((label,), top, left, bottom, right, side, is_long))
    groups.sort(key=lambda group: -group.side)

    windows = []
    for group in _merge(groups, hole.shape):
        own = np.isin(np.arange(count + 1), group.labels)
        for box, core, overlap in _boxes(group, hole.shape):
            cells = np.ix_(*(np.arange(edge.start, edge.stop) // block for edge in core))
            weights = _tent(hole[core].shape, overlap) * (own[labels[cells]] & (hole[core] > 0))
            if weights.any():
                inner = hole_box(weights[..., None])
                rows, columns = (
                    slice(outer.start + edge.start, outer.start + edge.stop)
                    for outer, edge in zip(core, inner, strict=True)
                )
                windows.append(Window(box, (rows, columns), weights[inner]))
                if len(windows) > _MOST_WINDOWS and smallest < max(hole.shape):
                    return None
    return windows


def _block_max(values: np.ndarray, block: int) -> np.ndarray:
    """The largest value in each block x block pixels."""
    return cv2.dilate(values, np.ones((block, block), np.uint8), anchor=(0, 0))[::block, ::block]


def _block_sum(values: np.ndarray, block: int) -> np.ndarray:
    """The sum of each block x block pixels, float32."""
    sums = cv2.boxFilter(
        values,
        cv2.CV_32F,
        (block, block),
        anchor=(0, 0),
        normalize=False,
        borderType=cv2.BORDER_CONSTANT,
    )
    return sums[::block, ::block]


def _merge(groups: list[_Group], shape: tuple[int, int]) -> Iterator[_Group]:
    """Joins the holes that lie well within the window of another of about their scale."""
    edges = np.array([(g.top, g.left, g.bottom, g.right) for g in groups])
    sides = np.array([group.side for group in groups])
    free = np.ones(len(groups), bool)
    mergeable = np.array([not group.is_long for group in groups])
    for i, group in enumerate(groups):
        if not free[i]:
            continue
        members = np.zeros(len(groups), bool)
        if mergeable[i]:
            box = _box(*_center(group), group.side, group.extent, shape)
            (top, bottom), (left, right) = (
                # A margin for context, but none where the picture ends.
                (edge.start + margin * (edge.start > 0), edge.stop - margin * (edge.stop < length))
                for edge, length, margin in (
                    (edge, length, (edge.stop - edge.start) // 8)
                    for edge, length in zip(box, shape, strict=True)
                )
            )
            inside = (edges[:, :2] >= (top, left)).all(1) & (edges[:, 2:] <= (bottom, right)).all(1)
            members = inside & free & mergeable & (sides >= group.side / _COARSER)
        members[i] = True
        free &= ~members
        joined = edges[members]
        labels = tuple(groups[j].labels[0] for j in np.flatnonzero(members))
        (top, left), (bottom, right) = joined[:, :2].min(0), joined[:, 2:].max(0)
        yield _Group(labels, top, left, bottom, right, group.side, group.is_long)


def _boxes(group: _Group, shape: tuple[int, int]) -> Iterator[tuple[Box, Box, int]]:
    """Box, core and overlap of the core with its neighbours', for each window of a group."""
    if not group.is_long:
        core = np.s_[group.top : group.bottom, group.left : group.right]
        extent = group.extent
        yield _box(*_center(group), max(group.side, extent), extent, shape), core, 0
        return
    length = round(group.side / 2)
    overlap = length // 4
    for top in _starts(group.top, group.bottom, length, overlap):
        bottom = min(top + length, group.bottom)
        for left in _starts(group.left, group.right, length, overlap):
            right = min(left + length, group.right)
            box = _box((top + bottom) / 2, (left + right) / 2, group.side, length, shape)
            yield box, np.s_[top:bottom, left:right], overlap


def _starts(first: int, last: int, length: int, overlap: int) -> list[int]:
    """Where pieces of a length start that cover a range evenly and overlap at least so much."""
    if last - first <= length:
        return [first]
    count = math.ceil((last - first - overlap) / (length - overlap))
    return np.linspace(first, last - length, count).round().astype(int).tolist()


def _center(group: _Group) -> tuple[float, float]:
    return (group.top + group.bottom) / 2, (group.left + group.right) / 2


def _box(
    y: float, x: float, side: float, extent: int, shape: tuple[int, int]
) -> tuple[slice, slice]:
    """The square of a side around a point, moved into the picture.

    Where the picture is too small for it: the largest square, if that leaves some context around
    what is to be filled, else as much of the picture as the square holds.
    """
    side = math.ceil(side)
    largest = min(shape)
    if side > largest and extent <= _MOST_OF_WINDOW * largest:
        side = largest
    edges = []
    for center, length in zip((y, x), shape, strict=True):
        span = min(side, length)
        start = min(max(round(center - span / 2), 0), length - span)
        edges.append(slice(start, start + span))
    rows, columns = edges
    return rows, columns


def _tent(shape: tuple[int, int], overlap: int) -> np.ndarray:
    """uint8 weights, 255 inside and falling towards the edges over an overlap."""
    if not overlap:
        return np.full(shape, 255, np.uint8)
    ramps = []
    for length in shape:
        place = np.arange(length) + 0.5
        ramps.append(np.minimum(1, np.minimum(place, length - place) / overlap))
    return np.ceil(255 * np.outer(*ramps)).astype(np.uint8)


def view(image: np.ndarray, hole: np.ndarray, box: Box, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What the model sees of a part of a picture: it and its hole at the model's size.

    Any part of the hole under a pixel makes it one, and nothing of what it hides is left in the
    others. A part that is no square is made one by mirroring it, hole included: squeezed to a
    square it would look like nothing the model has learnt.

    Args:
        image: uint8 [H, W, 3].
        hole: uint8 {0, 1} [H, W].
        box: which part.
        size: S.

    Returns:
        uint8 [S, S, 3] and uint8 {0, 1} [S, S, 1].
    """
    mask = hole[box]
    rows, columns = seen(box, size)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    small = resize(np.where(mask[..., None] > 0, np.uint8(0), image[box]), height, width)
    # In float: of many pixels, one hole pixel is less than half of the last of 8 bits.
    small_mask = resize(mask.astype(np.float32), height, width) != 0
    around = ((rows.start, size - rows.stop), (columns.start, size - columns.stop))
    small = np.pad(small, (*around, (0, 0)), mode="symmetric")
    small_mask = np.pad(small_mask, around, mode="symmetric")
    return small, small_mask.astype(np.uint8)[..., None]


def seen(box: Box, size: int) -> Box:
    """Where in what the model sees, [S, S], a part of a picture is: all of it for a square."""
    lengths = [edge.stop - edge.start for edge in box]
    inner = []
    for length in lengths:
        span = max(1, round(size * length / max(lengths)))
        start = (size - span) // 2
        inner.append(slice(start, start + span))
    rows, columns = inner
    return rows, columns
