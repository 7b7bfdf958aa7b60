"""Picture files that are completed and written again, with all that the model does not look at.

The model sees 8-bit RGB. A file may hold more: 16 bits a channel, transparency, colour information,
EXIF. A `Picture` carries all of it, so that what is written is the file itself outside the hole.
"""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from uctgan_jax.decoding import ORIENTATION, PNG, decode, open_picture, png_chunks
from uctgan_jax.files import write_atomically
from uctgan_jax.images import Source, name_of, over_white, read_bytes

# Chunks of a PNG that say what its values mean. PIL tells of the profile, chunk iCCP.
_COLOUR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
# Of the many tags of a TIFF those that describe its picture: description, maker, model, resolution
# (3), software, date, artist, host, copyright.
_TIFF_TAGS = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432)
_EXIF_DIRECTORIES = (0x8769, 0x8825)  # EXIF's own and GPS
_EXIF_SIZE = (0xA002, 0xA003)  # width and height, which turning exchanges


@dataclass(frozen=True)
class Picture:
    """One picture file.

    Attributes:
        pixels: uint8 RGB [H, W, 3], upright: what is completed. Transparent parts lie over white.
        stored: uint8 or uint16 [H, W, 3 or 4], upright: RGB or RGBA as the file has them.
        chunks: what a PNG of them says besides, by kind of chunk: `cICP`, `iCCP` (compressed),
            `gAMA`, `cHRM`, `sRGB`, `mDCV`, `cLLI`, `pHYs` and `eXIf`.
    """

    pixels: np.ndarray
    stored: np.ndarray
    chunks: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def icc_profile(self) -> bytes | None:
        """The RGB colour profile, if there is one."""
        chunk = self.chunks.get(b"iCCP")
        return None if chunk is None else zlib.decompress(chunk[chunk.index(b"\0") + 2 :])


def read_picture(source: Source) -> Picture:
    """Reads a picture file, or its bytes, of any format that `decoding.decode` knows.

    Kept: 16 bits a channel, alpha, a colour profile of RGB, resolution, EXIF, and of PNG also
    gAMA, cICP, cHRM, sRGB, mDCV and cLLI. Dropped: EXIF's orientation, which is applied, and its
    thumbnail, which would show what was hidden; XMP, IPTC and comments; profiles of grey and CMYK
    pictures, which become RGB; EXIF that is damaged.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: as `decoding.decode`.
    """
    data = read_bytes(source)
    stored = decode(data, name_of(source))
    return Picture(over_white(stored), stored, _read_chunks(data))


def with_completion(picture: Picture, completion: np.ndarray, mask: np.ndarray) -> Picture:
    """A picture with its hole completed: there the completion, elsewhere the file's own pixels.

    Depth, alpha channel and metadata are the file's. A hole that is transparent throughout,
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
    return dataclasses.replace(picture, pixels=completion, stored=pixels)


def write_picture(path: str | Path, picture: Picture) -> None:
    """Writes a picture as PNG, as it is stored, with its colour information, EXIF and resolution.

    Args:
        path: of the PNG; missing folders are made, and there is never half a file.
        picture: of any depth.

    Raises:
        OSError: with the path, if it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = _add_chunks(_encode(picture.stored), picture.chunks)
    with write_atomically(path) as file:
        file.write(data)


def _encode(pixels: np.ndarray) -> bytes:
    to_bgr = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    options = (cv2.IMWRITE_PNG_COMPRESSION, 4)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, to_bgr), options)
    if done:
        return encoded.tobytes()
    file = io.BytesIO()  # Over 1,000,000 pixels a side, which `decode` knows of 8 bits alone.
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    return file.getvalue()


def _read_chunks(data: bytes) -> dict[bytes, bytes]:
    """What a file says of its pixels, as the chunks of a PNG (its specification, section 11.3)."""
    chunks: dict[bytes, bytes] = {}
    raw_exif = None
    if data.startswith(PNG):
        for kind, content in png_chunks(data):
            if kind in _COLOUR_CHUNKS:
                chunks.setdefault(kind, content)
            raw_exif = content if kind == b"eXIf" else raw_exif  # PIL misses it after the pixels
    try:
        picture = open_picture(data)
    except Exception:  # some kinds of TIFF
        return chunks
    profile = picture.info.get("icc_profile")
    if profile and profile[16:20] == b"RGB ":
        chunks[b"iCCP"] = b"ICC profile\0\0" + zlib.compress(profile)  # method 0, deflate
    dpi = picture.info.get("dpi")
    if dpi and all(0 < float(value) < 1e6 for value in dpi):
        a_metre = (round(float(value) / 0.0254) for value in dpi)
        chunks[b"pHYs"] = struct.pack(">IIB", *a_metre, 1)  # unit 1, the metre
    exif = _upright_exif(picture, raw_exif)
    if exif:
        chunks[b"eXIf"] = exif
    return chunks


def _upright_exif(picture: Image.Image, raw: bytes | None) -> bytes | None:
    """The EXIF of a picture without orientation, size, thumbnail and the layout of its file."""
    try:
        if raw is None:
            exif = picture.getexif()
        else:
            exif = Image.Exif()
            exif.load(raw)
        kept = Image.Exif()
        tags = _TIFF_TAGS if picture.format == "TIFF" else {*exif} - {ORIENTATION}
        for tag in sorted({*tags} & {*exif} - {*_EXIF_DIRECTORIES}):
            kept[tag] = exif[tag]
        for directory in _EXIF_DIRECTORIES:
            values = {t: v for t, v in exif.get_ifd(directory).items() if t not in _EXIF_SIZE}
            if values:
                kept[directory] = values
        return kept.tobytes().removeprefix(b"Exif\0\0") if len(kept) else None
    except Exception:  # PIL raises many kinds for damaged EXIF
        return None


def _add_chunks(png: bytes, chunks: Mapping[bytes, bytes]) -> bytes:
    """A PNG with more chunks, all of which may stand between its header and its pixels."""
    header_end = len(PNG) + 25
    added = b""
    for kind, content in chunks.items():
        crc = zlib.crc32(kind + content)
        added += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)
    return png[:header_end] + added + png[header_end:]
