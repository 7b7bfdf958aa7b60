"""Pictures and strokes between the browser and the model, as plain arrays.

The brush gets a copy of the picture that fits a screen, and only the hole is taken from it. The
picture itself stays on the server as it was uploaded. So its known pixels come out bit for bit
whatever the browser does with colours.

Mistakes of the reader are raised as `gr.Error`, which the page shows as a message.
"""

import base64
import html
import io
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from uctgan_jax import images
from uctgan_jax.inpainting.boundary import hole_of
from uctgan_jax.inpainting.image_file import Picture, read_picture

MAX_PIXELS = 16_000_000  # a phone's photograph has 12 million
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MIN_SIDE, MAX_SIDE = 16, 8192
VIEW_SIDE = 512  # smaller pictures are shown enlarged to at least this
MAX_VIEW_SIDE = 1024
MAX_STROKES = 4_000_000  # characters
BRUSH = (255, 64, 110, 255)  # as in brush.js
MOST_GROWTH = 16  # pixels
NOTHING_BRUSHED = "Nothing is brushed yet. Brush over the part that is to be drawn anew."


def refusal(message: str) -> gr.Error:
    """An error for the page to show in plain words, with nothing written to the log."""
    return gr.Error(html.escape(message), print_exception=False)


def open_picture(path: str | Path) -> Picture:
    """Reads an upload, with all that its file holds.

    Raises: gr.Error for a file that is no whole picture, or one too large or too small.
    """
    data = Path(path).read_bytes()
    _check_size(*_size(data))
    try:
        return read_picture(data)
    except ValueError as error:
        raise refusal("This picture is damaged: it cannot be read to its end.") from error


def _size(data: bytes) -> tuple[int, int]:
    """Width and height before decoding: a small file can hold a huge picture."""
    try:
        # Other formats have programs run, or decode to other sizes than they tell.
        with Image.open(io.BytesIO(data), formats=UPLOAD_FORMATS) as header:
            return header.size
    except Image.DecompressionBombError as error:
        raise refusal(f"The picture has more than {MAX_PIXELS // 10**6} megapixels.") from error
    except Exception as error:
        raise refusal("This file is not a picture that can be read. Try PNG or JPEG.") from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise refusal(
            f"The picture has {width} x {height} pixels. The most is {MAX_PIXELS // 10**6} "
            f"megapixels and {MAX_SIDE} pixels a side: make it smaller."
        )
    if min(width, height) < MIN_SIDE:
        raise refusal(
            f"The picture has {width} x {height} pixels. It needs {MIN_SIDE} or more a side."
        )


def view(image: np.ndarray) -> np.ndarray:
    """A picture as the page shows it: small ones enlarged by a whole factor, large ones reduced."""
    height, width = image.shape[:2]
    longest = max(height, width)
    scale = min(max(-(-VIEW_SIDE // longest), 1), MAX_VIEW_SIDE / longest)
    if scale == 1:
        return image
    return images.resize(image, max(1, round(height * scale)), max(1, round(width * scale)))


def data_url(image: np.ndarray, kind: str) -> str:
    """A picture, uint8 [H, W, 3 or 4], as the text that a browser shows: "jpeg" or "png"."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, quality=92)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def strokes(mask: np.ndarray, height: int, width: int) -> str:
    """The strokes that would brush a hole, on a view of the picture of this height and width.

    Args:
        mask: uint8 [H, W], 1 = hole.

    Returns:
        What `brushed_hole` takes.
    """
    shown = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    picture = np.zeros((height, width, 4), np.uint8)
    picture[np.asarray(shown) > 0] = BRUSH
    return data_url(picture, "png")


def brushed_hole(brushed: str | None, height: int, width: int, *, grow: int = 0) -> np.ndarray:
    """The hole that was brushed: uint8 [height, width], 1 wherever the brush touched a pixel.

    Args:
        brushed: the strokes on a view of the picture, a data URL of a PNG with transparency.
        height, width: of the picture itself.
        grow: by how many pixels the hole is grown in every direction.

    Raises: gr.Error if nothing or everything is brushed, or the strokes cannot be read.
    """
    if not brushed:
        raise refusal(NOTHING_BRUSHED)
    try:
        alpha = _stroke_opacity(brushed)
    except Exception as error:
        raise refusal("The brush strokes did not arrive whole. Brush again.") from error
    stroke = np.where(alpha >= 128, np.uint8(255), np.uint8(0))
    least = 1 if stroke.shape[0] > height else 128  # averaged down, interpolated up
    hole = (images.resize(stroke, height, width) >= least).astype(np.uint8)
    if not hole.any():
        raise refusal(NOTHING_BRUSHED)
    if not 0 <= grow <= MOST_GROWTH:
        raise refusal(f"The hole can be grown by 0 to {MOST_GROWTH} pixels.")
    try:
        return hole_of(255 * hole, int(grow))
    except ValueError:
        raise refusal(
            "Everything is brushed. Leave a part of the picture for the model to see."
        ) from None


def _stroke_opacity(brushed: str) -> np.ndarray:
    """uint8 [h, w] of a PNG's data URL; raises ValueError for anything that no brush sends."""
    kind, _, text = brushed.partition(",")
    if kind != "data:image/png;base64" or len(text) > MAX_STROKES:
        raise ValueError(kind[:40])
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
        if max(picture.size) > MAX_VIEW_SIDE:
            raise ValueError(picture.size)
        return np.asarray(picture.convert("RGBA"))[..., 3]
