"""Pictures on the host: reading, writing, resizing, contact sheets.

All pictures are uint8 RGB [H, W, 3]; masks are uint8 {0, 1} [H, W, 1] with 1 = hole. In mask files
white is the hole, unless the caller says `black_is_hole`.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from uctgan_jax.decoding import decode, decode_plain
from uctgan_jax.files import InputFile, read_input, write_atomically

MASK_CONVENTIONS = ("white_is_hole", "black_is_hole")
# 8-bit values of a mask under this are as good as black beside colours, and labels by themselves.
_FAINT = 32

Source = str | Path | bytes | InputFile  # a file, or what it holds


def read_image(source: Source) -> np.ndarray:
    """Read a picture, from a file or from its encoded bytes, as uint8 RGB [H, W, 3].

    It is upright, as EXIF or XMP say. Grey, palette, CMYK and 16-bit pictures are converted to
    8-bit RGB; transparent ones are laid over white. Of an animation the first frame is taken.

    Raises: FileNotFoundError; ValueError for a file that is not a whole picture, see
      `decoding.decode`.
    """
    data = read_bytes(source)
    plain = decode_plain(data)
    return over_white(decode(data, name_of(source))) if plain is None else plain


def over_white(pixels: np.ndarray) -> np.ndarray:
    """RGB or RGBA of 8 or 16 bits as uint8 RGB [H, W, 3], over white."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return pixels
    white = np.float32(np.iinfo(pixels.dtype).max)
    colours = pixels[..., :3].astype(np.float32)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:] / white
        colours = colours * alpha + white * (1 - alpha)
    return np.round(colours * (255 / white)).astype(np.uint8)


def read_mask(
    source: Source,
    *,
    convention: str = "white_is_hole",
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read a mask, from a file or from its encoded bytes, as uint8 {0, 1} [H, W, 1], 1 = hole.

    A pixel is hole if `read_coverage` is 128 or more. Arguments and errors are those of
    `read_coverage`.
    """
    return (read_coverage(source, convention=convention, size=size) >= 128).astype(np.uint8)


def read_coverage(
    source: Source,
    *,
    convention: str = "white_is_hole",
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read how much of each pixel a mask covers: uint8 [H, W, 1], 255 = wholly hole, 0 = known.

    Every marked pixel is hole, whatever it is marked with:

    - An alpha channel that is not the same everywhere is the mask, and opaque counts as white.
    - Otherwise colours are labels: where a mask has colours, every pixel that is not black is
      wholly hole. Black may be up to 31, as JPEG and anti-aliasing leave it.
    - 0 and one other value, or values that are all under 32, are labels too: all but 0 is hole.
    - Other grey values are coverage. 16-bit values have 65535 as white, or 255 if none is higher.

    With "black_is_hole" the coverage is the complement of this.

    Args:
      convention: "white_is_hole" or "black_is_hole".
      size: the (H, W) that the mask must have, usually that of its picture.

    Raises: FileNotFoundError; ValueError for an unknown convention, a file that is not a whole
      picture, or another size.
    """
    if convention not in MASK_CONVENTIONS:
        allowed = ", ".join(MASK_CONVENTIONS)
        raise ValueError(f"Unknown mask convention {convention!r}: must be one of {allowed}.")
    coverage = coverage_of(decode(read_bytes(source), name_of(source)))
    if size is not None and coverage.shape != tuple(size):
        raise ValueError(
            f"{name_of(source)}: the mask is {_size(coverage.shape)} but must be {_size(size)} "
            "(height x width), the size of its picture."
        )
    return (coverage if convention == "white_is_hole" else 255 - coverage)[..., None]


def coverage_of(mask: np.ndarray) -> np.ndarray:
    """What a decoded mask covers, by the rules of `read_coverage`; white is hole.

    Args:
      mask: uint8 or uint16 [H, W, C], grey, RGB or RGBA.

    Returns: uint8 [H, W], 255 = wholly hole, 0 = known.
    """
    alpha = mask[..., 3] if mask.shape[2] == 4 else None
    marks = mask[..., :3] if alpha is None or alpha.min() == alpha.max() else alpha[..., None]
    brightest, darkest = marks.max(axis=2), marks.min(axis=2)
    top = brightest.max()
    white = 65535 if top > 255 else 255
    faint = white // 255 * _FAINT
    if (brightest - darkest).max() >= faint:
        return np.where(brightest >= faint, np.uint8(255), np.uint8(0))
    if top < faint or not ((brightest > 0) & (brightest < top)).any():
        return np.where(brightest > 0, np.uint8(255), np.uint8(0))
    return np.round(brightest * np.float32(255 / white)).astype(np.uint8)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 [H, W, 3], [H, W, 1] or [H, W] as PNG, in one step: never half a file.

    Missing folders are made.

    Raises: ValueError for another dtype or shape.
    """
    channels = image.shape[2:]
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or channels not in ((), (1,), (3,)):
        raise ValueError(f"Picture is {image.dtype} {image.shape}: must be uint8 [H, W, 1 or 3].")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as file:
        Image.fromarray(image[..., 0] if channels == (1,) else image).save(file, "PNG")


def resize_and_crop(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the central square out of uint8 [H, W, C] and resize it to [size, size, C].

    Same as resizing the shorter side to `size` and cropping the centre, without ever making the
    long resized picture. Downwards by area, upwards by cubic interpolation.

    Raises: ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"Picture size ({size}) must be positive.")
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square)
    resized = resize(np.ascontiguousarray(square), size, size)
    return resized.reshape(size, size, *image.shape[2:])


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture at another size, uint8 [height, width, ...]: area filter down, cubic up."""
    least = min(height, image.shape[0]), min(width, image.shape[1])
    if least != image.shape[:2]:  # One side may grow, though.
        image = cv2.resize(image, least[::-1], interpolation=cv2.INTER_AREA)
    if least == (height, width):
        return image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)


def check_hole(mask: np.ndarray, source: Source, *, convention: str = "white_is_hole") -> None:
    """Refuses a mask that leaves nothing to complete, or nothing to complete it from.

    Args:
      mask: what `read_mask` made of `source` with this convention.

    Raises: ValueError, with the file's values and what to do, if all pixels are hole or none is.
    """
    if mask.any() and not mask.all():
        return
    values = np.unique(decode(read_bytes(source), name_of(source))).tolist()
    shown = ", ".join(str(value) for value in values[:6]) + (", ..." if len(values) > 6 else "")
    which = "full: every" if mask.any() else "empty: no"
    colour = convention.partition("_")[0]
    raise ValueError(
        f"{name_of(source)}: the mask is {which} pixel of {_size(mask.shape[:2])} is hole. Values "
        f"of the file: {shown}; {colour} is the hole. Draw the hole in it, or use the mask "
        f"convention {other_convention(convention)}."
    )


def other_convention(convention: str) -> str:
    """The one of the two `MASK_CONVENTIONS` that is not given: for masks that look inverted."""
    first, second = MASK_CONVENTIONS
    return second if convention == first else first


def read_bytes(source: Source) -> bytes:
    """The bytes of a file, or those given. Raises a FileNotFoundError that names the file."""
    return source if isinstance(source, bytes) else read_input(source).data


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], *, labels: Sequence[str] = (), cell: int = 96
) -> np.ndarray:
    """A grid of pictures with column heads and white gutters: uint8 RGB [H, W, 3].

    Args:
      rows: rows of uint8 [H, W, 3] pictures or {0, 1} [H, W, 1] masks (holes are drawn white), of
        any sizes. A row may be shorter than others.
      labels: one head a column, or none.
      cell: side in pixels of the square that each picture is fitted into.

    Raises: ValueError for no pictures, more or fewer labels than columns, or wrong shapes.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError("A contact sheet needs at least one picture.")
    if labels and len(labels) != columns:
        raise ValueError(f"{len(labels)} labels for {columns} columns: must be one a column.")
    gutter = max(2, cell // 16)
    pitch = cell + gutter
    font = ImageFont.load_default(min(max(9, cell // 7), 20))
    head = gutter + int(font.size * 1.5) if labels else gutter
    sheet = Image.new("RGB", (columns * pitch + gutter, head + len(rows) * pitch), "white")
    draw = ImageDraw.Draw(sheet)
    for column, label in enumerate(labels):
        # Centred over the column, on one line, in a smaller font where it is too wide.
        fitted = font
        while fitted.getlength(label) > cell and fitted.size > 7:
            fitted = ImageFont.load_default(fitted.size - 1)
        x = gutter + column * pitch + cell // 2
        draw.text((x, head - gutter), label, fill=(60, 60, 60), font=fitted, anchor="ms")
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            fitted = Image.fromarray(_fit(picture, cell))
            x = gutter + column * pitch + (cell - fitted.width) // 2
            y = head + row * pitch + (cell - fitted.height) // 2
            sheet.paste(fitted, (x, y))
    return np.asarray(sheet)


def completion_sheet(images: np.ndarray, masks: np.ndarray, completions: np.ndarray) -> np.ndarray:
    """A contact sheet, one row a picture: input, masked, its K completions, ground truth.

    Args:
      images: uint8 [B, H, W, 3].
      masks: uint8 {0, 1} [B, H, W, 1], 1 = hole, drawn grey.
      completions: uint8 [B, K, H, W, 3].
    """
    masked = np.where(masks > 0, np.uint8(128), images)
    numbers = [str(k + 1) for k in range(completions.shape[1])]
    rows = [
        [image, hidden, *row, image]
        for image, hidden, row in zip(images, masked, completions, strict=True)
    ]
    return contact_sheet(rows, labels=["input", "masked", *numbers, "truth"])


def _fit(picture: np.ndarray, cell: int) -> np.ndarray:
    if picture.ndim != 3 or picture.shape[2] not in (1, 3) or picture.dtype != np.uint8:
        raise ValueError(
            f"Picture is {picture.dtype} {picture.shape}: must be uint8 [H, W, 3] or a mask "
            "[H, W, 1]."
        )
    if picture.shape[2] == 1:
        picture = np.repeat(np.where(picture > 0, 255, 0).astype(np.uint8), 3, axis=2)
    scale = cell / max(picture.shape[:2])
    height, width = (max(1, round(n * scale)) for n in picture.shape[:2])
    return resize(np.ascontiguousarray(picture), height, width)


def name_of(source: Source) -> str:
    """How errors call a picture."""
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    return str(source.path if isinstance(source, InputFile) else source)


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape)
