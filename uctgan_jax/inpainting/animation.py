"""Animated pictures of walks from one completion to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from uctgan_jax.files import write_atomically

_FRAME_MS = 80  # GIF knows hundredths of a second
_PAUSE_MS = 640  # at both ends
_PALETTE_FRAMES = 8  # that the colours are chosen from


def write_walk(path: str | Path, frames: np.ndarray) -> None:
    """Writes frames as an endless animated GIF that goes there and back, with a pause at each end.

    All frames share one palette of 256 colours, and pixels that no frame changes have one index:
    known pixels do not flicker as the hole goes through its completions.

    Args:
        path: the file, written whole or not at all.
        frames: uint8 [N, H, W, 3], two or more.

    Raises:
        ValueError: for other types or shapes.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
        raise ValueError(f"frames ({frames.dtype} {frames.shape}) must be uint8 [2 ..., H, W, 3]")
    some = np.linspace(0, len(frames) - 1, min(len(frames), _PALETTE_FRAMES)).astype(int)
    palette = Image.fromarray(np.concatenate(frames[some])).quantize(256)
    colours = palette.getpalette()
    assert colours is not None  # which `quantize` has given it
    constant = (frames == frames[0]).all(axis=(0, 3))
    first = None
    pictures = []
    for frame in frames:
        indices = np.asarray(Image.fromarray(frame).quantize(palette=palette))
        first = indices if first is None else first
        picture = Image.fromarray(np.where(constant, first, indices), "P")
        picture.putpalette(colours)
        pictures.append(picture)
    durations = [_PAUSE_MS, *[_FRAME_MS] * (len(frames) - 2)]
    with write_atomically(Path(path)) as file:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:] + pictures[-2:0:-1],
            duration=[*durations, _PAUSE_MS, *durations[:0:-1]],
            loop=0,
        )
