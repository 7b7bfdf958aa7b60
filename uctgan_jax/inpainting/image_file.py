"""Picture files that are completed and written again, with all that the model does not look at.

The model sees 8-bit RGB. A file may hold more: 16 bits a channel, transparency, a colour profile.
A `Picture` carries both, so that what is written is the file itself outside the hole.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from uctgan_jax.files import write_atomically
from uctgan_jax.images import decode_opencv, name_of, read_image, too_large

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
# Formats of 16 bits a channel that PIL reads with 8 or not at all: also PNM and JPEG 2000.
_MAYBE_DEEP = (_PNG, *_TIFF, b"P5", b"P6", b"\0\0\0\x0cjP  \r\n\x87\n")
_ORIENTATION_TAG = 274


@dataclass(frozen=True)
class Picture:
    """One picture file.

    Attributes:
        pixels: uint8 RGB [H, W, 3], upright: what is completed. Transparent parts lie over white.
        stored: uint8 or uint16 [H, W, 3 or 4], upright: RGB or RGBA as the file has them.
        icc_profile: the RGB colour profile of both, if there is one.
    """

    pixels: np.ndarray
    stored: np.ndarray
    icc_profile: bytes | None = None


def read_picture(source: str | Path | bytes) -> Picture:
    """Reads a picture file, or its bytes, of any format that `read_image` knows.

    The EXIF orientation is applied. Grey and palette pictures become RGB; so do CMYK ones, whose
    profile, like that of grey ones, does not describe RGB and is dropped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole picture, or one of over 16 bits a channel.
    """
    pixels = read_image(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    tags = _read_tags(data, name_of(source))
    profile = tags.icc_profile
    if profile is not None and profile[16:20] != b"RGB ":
        profile = None
    stored = _decode_deep(data)
    if stored is not None:
        if not data.startswith(_TIFF):  # OpenCV turns TIFF by itself, and no other format here
            stored = _upright(stored, tags.orientation)
        return Picture(_over_white(stored), stored, profile)
    if tags.mode in ("I", "F"):
        raise ValueError(f"{name_of(source)}: 32 bits a channel: save it with 8 or 16")
    if tags.is_transparent:
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        return Picture(pixels, np.asarray(upright.convert("RGBA")), profile)
    return Picture(pixels, pixels, profile)


def with_completion(picture: Picture, completion: np.ndarray, mask: np.ndarray) -> Picture:
    """A picture with its hole completed: there the completion, elsewhere the file's own pixels.

    Depth, alpha channel and colour profile are the file's. A hole that is transparent throughout,
    as erasers leave it, becomes opaque: its completion could not be seen otherwise.

    Args:
        picture: what `read_picture` returned.
        completion: uint8 [H, W, 3], the picture's `pixels` but for the hole.
        mask: [H, W] or [H, W, 1], nonzero = hole.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    size = picture.pixels.shape[:2]
    if completion.shape != (*size, 3) or mask.shape not in (size, (*size, 1)):
        raise ValueError(
            f"completion {completion.shape} and mask {mask.shape} must have the picture's height"
            f" and width {size}"
        )
    hole = mask.reshape(size) != 0
    pixels = picture.stored.copy()
    scale = 257 if pixels.dtype == np.uint16 else 1  # 255 is the white of 8 bits, 65535 of 16
    pixels[hole, :3] = completion[hole].astype(pixels.dtype) * scale
    if pixels.shape[2] == 4 and not pixels[hole, 3].any():
        pixels[hole, 3] = 255 * scale
    return Picture(completion, pixels, picture.icc_profile)


def write_picture(path: str | Path, picture: Picture) -> None:
    """Writes a picture as PNG, as it is stored, with its colour profile.

    Args:
        path: of the PNG; missing folders are made, and there is never half a file.
        picture: of any depth.
    """
    pixels = picture.stored
    to_bgr = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    encoded = cv2.imencode(".png", cv2.cvtColor(pixels, to_bgr), (cv2.IMWRITE_PNG_COMPRESSION, 4))
    data = encoded[1].tobytes()
    if picture.icc_profile is not None:
        data = _add_profile(data, picture.icc_profile)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        file.write(data)


@dataclass(frozen=True)
class _Tags:
    """What a file says of its pixels."""

    orientation: int = 1  # EXIF's 1 to 8
    icc_profile: bytes | None = None
    mode: str = ""  # PIL's
    is_transparent: bool = False


def _read_tags(data: bytes, name: str) -> _Tags:
    try:
        with Image.open(io.BytesIO(data)) as image:
            return _Tags(
                orientation=image.getexif().get(_ORIENTATION_TAG, 1),
                icc_profile=image.info.get("icc_profile"),
                mode=image.mode,
                is_transparent=image.has_transparency_data,
            )
    except Image.UnidentifiedImageError:  # some of those that OpenCV knows
        return _Tags()
    except Image.DecompressionBombError as error:
        raise too_large(name) from error


def _decode_deep(data: bytes) -> np.ndarray | None:
    """A picture of 16 bits a channel, uint16 RGB or RGBA, not yet upright; None for others."""
    if not data.startswith(_MAYBE_DEEP) or (data.startswith(_PNG) and data[24] != 16):
        return None
    pixels = decode_opencv(data, cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16:
        return None
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2] == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _over_white(stored: np.ndarray) -> np.ndarray:
    """uint16 RGB or RGBA as uint8 RGB, over white."""
    pixels = stored[..., :3].astype(np.float32)
    if stored.shape[2] == 4:
        alpha = stored[..., 3:] / np.float32(65535)
        pixels = pixels * alpha + 65535 * (1 - alpha)
    return np.round(pixels / 257).astype(np.uint8)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: 5 to 8 are transposed, and the others are flipped or not."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _add_profile(png: bytes, profile: bytes) -> bytes:
    """A PNG with a colour profile: an iCCP chunk (PNG specification, 11.3.3.3) after the header."""
    name = b"ICC profile\0\0"  # the second 0 is the compression method, deflate
    chunk = b"iCCP" + name + zlib.compress(profile)
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    header_end = len(_PNG) + 25
    return png[:header_end] + chunk + png[header_end:]
