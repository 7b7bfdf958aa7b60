"""Picture files of any format as upright pixels of their own depth: one reader for all of them.

Pictures, masks, training data and evaluation go through `decode`, so that a mask is turned and
scaled exactly like its picture. Sizes are checked from headers, before any pixel is decoded.
"""

import io
import logging
import re
import struct
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg
import tifffile
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # the tag of EXIF and TIFF
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Formats that may have 16 bits a channel, of which PIL keeps 8: also PNM and JPEG 2000.
_MAYBE_DEEP = (PNG, b"P5", b"P6", b"\0\0\0\x0cjP  \r\n\x87\n")
# Text chunks of a PNG that may hold an orientation.
_TEXT_WITH_ORIENTATION = (b"XML:com.adobe.xmp", b"Raw profile type")

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # What is wrong is raised here.


class _Refused(ValueError):
    """A message for the user, as opposed to what decoders raise."""


def decode(data: bytes, name: str) -> np.ndarray:
    """Decodes a picture file: uint8 or uint16 [H, W, 3 or 4], upright, RGB or RGBA.

    Grey, palette and CMYK pictures become RGB. 16 bits a channel are kept for PNG, TIFF, PNM and
    JPEG 2000; deeper AVIF and HEIC files come with 8. Values of 10 to 15 bits are scaled to 16.
    The orientation is that of EXIF, or of XMP where EXIF has none, wherever the file has them.
    Of an animation or a file of several pages the first picture is taken.

    Args:
      data: the whole file.
      name: what errors call it.

    Raises:
      ValueError: an unknown format, a damaged file, over `2 * PIL.Image.MAX_IMAGE_PIXELS` pixels,
        or signed, floating-point or 32-bit values.
    """
    try:
        return _decode_tiff(data) if data.startswith(_TIFF) else _decode_other(data)
    except _Refused as error:
        raise ValueError(f"{name}: {error}.") from None
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{name}: not a picture of a known format.") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name}: {_limit()}.") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, MemoryError ...
        raise ValueError(f"{name}: damaged picture ({error or type(error).__name__}).") from error


def decode_plain(data: bytes) -> np.ndarray | None:
    """Like `decode` for the common files, uint8 RGB, two to three times faster.

    These are upright 8-bit JPEG and PNG, grey or RGB, without transparency. It returns None for all
    others, and for damaged ones: PIL tells a flaw from a missing half.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            if _has_jpeg_metadata(data) and orientation_of(open_picture(data)) != 1:
                return None
            height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
            if colours in ("YCbCr", "Gray", "RGB") and _is_small_enough(height, width):
                return simplejpeg.decode_jpeg(data, "RGB")
        # Bytes 24 and 25 of a PNG are its bit depth and colour type.
        elif data.startswith(PNG) and data[24:26] in (b"\x08\x00", b"\x08\x02"):
            width, height = struct.unpack(">II", data[16:24])
            if _is_small_enough(height, width) and _is_plain_png(data):
                bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                return None if bgr is None else cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    except Exception:
        pass
    return None


def open_picture(data: bytes) -> Image.Image:
    """What PIL reads of a file's header; no pixels are decoded. It raises what PIL raises."""
    if data[4:8] == b"ftyp":
        import pi_heif  # only where it is needed: importing it takes a while

        pi_heif.register_heif_opener()
    return Image.open(io.BytesIO(data))


def orientation_of(picture: Image.Image) -> int:
    """EXIF's number from 1 to 8, of EXIF or else of XMP; 1 if neither can be read.

    In a PNG both may follow the pixels: it must have been loaded.
    """
    try:
        value = picture.getexif().get(ORIENTATION)
    except Exception:  # PIL raises many kinds for damaged EXIF
        value = None
    if value is None:
        xmp = picture.info.get("xmp") or b""
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        found = re.search(rb"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])", xmp)
        value = int(found[1]) if found else 1
    return value if value in range(1, 9) else 1


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kinds and contents of a PNG's chunks, but for the contents of its pixels."""
    start = len(PNG)
    while start + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, b"" if kind == b"IDAT" else data[start + 8 : start + 8 + length]
        start += length + 12


def _decode_other(data: bytes) -> np.ndarray:
    picture = open_picture(data)
    picture.load()
    pixels = _decode_deep(data)
    if pixels is None:
        if data.startswith(PNG) and data[24] == 16:  # PIL would drop half of them
            raise _Refused("16 bits a channel and a side of over 1,000,000 pixels")
        pixels = _to_array(picture)
    return _upright(pixels, orientation_of(picture))


def _to_array(picture: Image.Image) -> np.ndarray:
    """A loaded picture in any of PIL's modes."""
    if picture.mode.startswith("I;16"):
        return np.repeat(np.asarray(picture).astype(np.uint16)[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise _Refused("32 bits a channel: save it with 8 or 16")
    return np.asarray(picture.convert("RGBA" if picture.has_transparency_data else "RGB"))


def _decode_deep(data: bytes) -> np.ndarray | None:
    """A picture of 16 bits a channel, not yet upright; None for others. TIFF comes upright."""
    if not data.startswith((*_MAYBE_DEEP, *_TIFF)) or data.startswith(PNG) and data[24] != 16:
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # sides beyond its limits
        return None
    if pixels is None or pixels.dtype != np.uint16:
        return None
    white = _white_of(data)
    if white != 65535:
        pixels = (pixels.astype(np.uint32) * 65535 // white).astype(np.uint16)
    if pixels.ndim == 2:
        grey = pixels[..., None]
        transparent = dict(png_chunks(data)).get(b"tRNS") if data.startswith(PNG) else None
        if transparent is None:
            return np.repeat(grey, 3, axis=2)
        alpha = np.where(grey == int.from_bytes(transparent), np.uint16(0), np.uint16(65535))
        return np.concatenate([grey, grey, grey, alpha], axis=2)
    to_rgb = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, to_rgb)


def _white_of(data: bytes) -> int:
    """The highest value of a deep PNM or JPEG 2000 file, which its header says."""
    if pnm := re.match(rb"P[56](?:\s+|#[^\n]*\n)+\d+\s+\d+\s+(\d+)\s", data):
        return int(pnm[1])
    header = data.find(b"ihdr", 0, 256)  # a box: height, width, components, bits less 1 and a sign
    if data.startswith(_MAYBE_DEEP[-1]) and header > 0 and data[header + 14] != 255:
        return 2 ** ((data[header + 14] & 127) + 1) - 1
    return 65535


def _decode_tiff(data: bytes) -> np.ndarray:
    """TIFF by tifffile; what that cannot decompress or convert by PIL, or OpenCV if it is deep."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if not _is_small_enough(page.imagelength, page.imagewidth):
            raise _Refused(_limit())
        if page.imagedepth > 1:
            raise _Refused("a TIFF of a volume: save one slice of it")
        if page.sampleformat not in (1, 4) or page.bitspersample > 16:  # unsigned or not said
            kind = {2: "signed ", 3: "floating-point "}.get(page.sampleformat, "")
            raise _Refused(
                f"{kind}values of {page.bitspersample} bits a channel: save it with 8 or 16 bits"
            )
        kinds = tifffile.PHOTOMETRIC
        simple = page.photometric in (kinds.MINISWHITE, kinds.MINISBLACK, kinds.RGB)
        values = None
        if simple and page.samplesperpixel <= 8:
            try:
                values = page.asarray()
            except (ValueError, NotImplementedError, ImportError) as error:
                if "imagecodecs" not in str(error) and not isinstance(error, ImportError):
                    raise
        if values is not None:
            orientation = page.tags.valueof(ORIENTATION, 1)
            return _upright(_tiff_pixels(page, values), orientation)
        if page.bitspersample <= 8:
            picture = open_picture(data)
            picture.load()  # which turns it, too
            return _to_array(picture)
        chunky = page.planarconfig == tifffile.PLANARCONFIG.CONTIG and page.bitspersample == 16
        as_stored = simple and page.photometric != kinds.MINISWHITE and 1 not in page.extrasamples
        pixels = _decode_deep(data) if chunky and as_stored else None
        if pixels is None:
            raise _Refused(
                f"a TIFF of {page.bitspersample} bits with {page.compression.name} compression: "
                "pip install imagecodecs, or save it without compression"
            )
        return pixels


def _tiff_pixels(page: tifffile.TiffPage, values: np.ndarray) -> np.ndarray:
    """The values of a page as RGB or RGBA of 8 or 16 bits, not yet upright."""
    bits = page.bitspersample
    if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and values.ndim == 3:
        values = np.moveaxis(values, 0, -1)
    values = values.reshape(page.imagelength, page.imagewidth, page.samplesperpixel)
    white = 255 if bits <= 8 else 65535
    if bits not in (8, 16):
        values = values.astype(np.uint32) * white // (2**bits - 1)
    values = values.astype(np.uint8 if bits <= 8 else np.uint16)
    colours = 3 if page.photometric == tifffile.PHOTOMETRIC.RGB else 1
    colour = values[..., :colours]
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        colour = white - colour
    colour = np.repeat(colour, 3, axis=2) if colours == 1 else colour
    # What follows the colours is alpha where the file says so, or says nothing.
    kind = page.extrasamples[0] if page.extrasamples else 2
    if values.shape[2] == colours or kind == 0:
        return np.ascontiguousarray(colour)
    alpha = values[..., colours : colours + 1]
    if kind == 1:  # colours are multiplied with it
        colour = (colour.astype(np.float64) * white / np.maximum(alpha, 1)).round().clip(0, white)
    return np.concatenate([colour.astype(values.dtype), alpha], axis=2)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Applies an EXIF orientation: 5 to 8 are transposed, and the others are flipped or not."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _is_small_enough(height: int, width: int) -> bool:
    return height * width <= 2 * Image.MAX_IMAGE_PIXELS


def _limit() -> str:
    return f"over {2 * Image.MAX_IMAGE_PIXELS / 1e6:g} megapixels"


def _has_jpeg_metadata(data: bytes) -> bool:
    """Whether EXIF or XMP stands anywhere before the pixels of a JPEG."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        kind, length = struct.unpack(">xBH", data[start : start + 4])
        if kind == 0xE1:  # APP1
            return True
        if kind == 0xDA:  # start of scan
            return False
        start += 2 + length
    return True  # Something else than segments: let PIL look.


def _is_plain_png(data: bytes) -> bool:
    """Whether a PNG is whole, opaque, still, and without EXIF or XMP before or after its pixels."""
    if data[-8:-4] != b"IEND":
        return False
    return not any(
        kind in (b"tRNS", b"eXIf", b"acTL")
        or (kind in (b"iTXt", b"tEXt", b"zTXt") and content.startswith(_TEXT_WITH_ORIENTATION))
        for kind, content in png_chunks(data)
    )
