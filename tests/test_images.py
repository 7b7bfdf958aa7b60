import io
import os
import struct
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from uctgan_jax.decoding import decode
from uctgan_jax.images import (
    contact_sheet,
    read_coverage,
    read_image,
    read_mask,
    resize,
    resize_and_crop,
    write_image,
)

RED = (255, 0, 0)


def encode(picture: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * y / height, 255 * x / width, 0 * x + 90], -1).astype(np.uint8)


def test_read_image_gives_png_pixels_back_from_path_and_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    data = encode(Image.fromarray(pixels), "PNG")
    (tmp_path / "絵.png").write_bytes(data)
    for source in (data, tmp_path / "絵.png", str(tmp_path / "絵.png")):
        image = read_image(source)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "BMP", "TIFF"])
def test_read_image_reads_the_usual_formats(format):
    pixels = smooth(40, 60)
    image = read_image(encode(Image.fromarray(pixels), format))
    assert image.shape == (40, 60, 3)
    assert np.abs(image.astype(int) - pixels).mean() < 4


def test_read_image_converts_grey_and_palette():
    grey = Image.fromarray(np.array([[0, 100, 255]], np.uint8))
    expected = np.array([[[0] * 3, [100] * 3, [255] * 3]])
    np.testing.assert_array_equal(read_image(encode(grey, "PNG")), expected)
    palette = Image.new("RGB", (4, 2), RED).convert("P", palette=Image.Palette.ADAPTIVE)
    assert (read_image(encode(palette, "PNG")) == RED).all()


def test_read_image_lays_transparent_pictures_over_white():
    rgba = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 127]]], np.uint8)
    image = read_image(encode(Image.fromarray(rgba), "PNG"))
    np.testing.assert_array_equal(image[0, :2], [RED, (255, 255, 255)])
    np.testing.assert_allclose(image[0, 2], 128, atol=1)


def test_read_image_reads_16_bit_grey_and_colour():
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for format in (".png", ".tiff"):
        grey = read_image(cv2.imencode(format, ramp)[1].tobytes())
        np.testing.assert_array_equal(grey[..., 0], np.arange(256).reshape(16, 16))
        colour = np.stack([ramp, 0 * ramp, 65535 - ramp], -1)  # B, G, R
        image = read_image(cv2.imencode(format, colour)[1].tobytes())
        assert np.abs(image[..., 2].astype(int) - np.arange(256).reshape(16, 16)).max() <= 1
        assert image[0, 0, 0] == 255


def test_a_dark_16_bit_picture_stays_dark():
    dark = np.full((4, 4), 120, np.uint16)
    assert (read_image(cv2.imencode(".png", dark)[1].tobytes()) == 0).all()


def test_read_image_reads_cmyk():
    cmyk = Image.new("CMYK", (32, 32), (0, 255, 255, 0))  # magenta and yellow ink: red
    image = read_image(encode(cmyk, "JPEG", quality=95))
    assert image.shape == (32, 32, 3)
    assert np.abs(image.mean((0, 1)) - RED).max() < 40
    assert image[..., 0].mean() > image[..., 1:].mean() + 150


def test_read_image_applies_the_exif_orientation():
    pixels = smooth(20, 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned: show it a quarter turn clockwise
    image = read_image(encode(Image.fromarray(pixels), "JPEG", quality=95, exif=exif))
    assert image.shape == (40, 20, 3)
    assert np.abs(image.astype(int) - np.rot90(pixels, -1)).mean() < 4


def test_read_image_applies_an_orientation_that_only_xmp_has():
    pixels = smooth(20, 40)
    xmp = PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    image = read_image(encode(Image.fromarray(pixels), "PNG", pnginfo=xmp))
    np.testing.assert_array_equal(image, np.rot90(pixels, -1))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


XMP = "<rdf:Description tiff:Orientation={}6{}/>"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("quote", ['"', "'"])
def test_orientation_in_xmp_after_the_pixels_turns_picture_and_mask(quote, compressed):
    pixels = smooth(20, 40)
    xmp = XMP.format(quote, quote).encode()
    text = zlib.compress(xmp) if compressed else xmp
    content = b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + text
    for mode in ("RGB", "L"):
        png = encode(Image.fromarray(pixels).convert(mode), "PNG")
        png = png[:-12] + png_chunk(b"iTXt", content) + png[-12:]
        plain = read_image(encode(Image.fromarray(pixels).convert(mode), "PNG"))
        np.testing.assert_array_equal(read_image(png), np.rot90(plain, -1))
        assert read_coverage(png).shape == (40, 20, 1)


def test_exif_is_found_behind_other_segments_of_a_jpeg():
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg = encode(Image.fromarray(smooth(20, 40)), "JPEG", exif=exif)
    filler = b"\xff\xe2" + struct.pack(">H", 65002) + bytes(65000)
    assert read_image(jpeg[:2] + 3 * filler + jpeg[2:]).shape == (40, 20, 3)


@pytest.mark.parametrize("format", ["AVIF", "JPEG2000", "GIF"])
def test_read_image_reads_newer_and_older_formats(format):
    pixels = smooth(40, 60)
    image = read_image(encode(Image.fromarray(pixels), format))
    assert np.abs(image.astype(int) - pixels).mean() < 8


def test_pnm_of_10_bits_is_scaled():
    pixels = decode(b"P5\n# a comment\n2 1 1023\n" + struct.pack(">2H", 0, 1023), "")
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 65535])


def test_a_transparent_value_of_16_bit_grey():
    png = cv2.imencode(".png", np.array([[7, 40000]], np.uint16))[1].tobytes()
    pixels = decode(png[:33] + png_chunk(b"tRNS", struct.pack(">H", 7)) + png[33:], "")
    np.testing.assert_array_equal(pixels[0, :, 3], [0, 65535])


def test_read_image_reads_heic():
    image = read_image(Path(__file__).parent / "inpainting" / "data" / "gradient.heic")
    y, x = np.mgrid[:24, :32]
    expected = np.stack([255 * y / 24, 255 * x / 32, 0 * x + 90], -1)
    assert image.shape == (24, 32, 3) and np.abs(image - expected).mean() < 4


def tiff(values: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_planes_byte_orders_and_white_is_zero(bits, byteorder, compression):
    deep = np.random.default_rng(0).integers(0, 2**16, (9, 16, 3), np.uint16)
    values = deep if bits == 16 else (deep >> 8).astype(np.uint8)
    options = dict(byteorder=byteorder, compression=compression, metadata=None)
    planes = np.ascontiguousarray(np.moveaxis(values, -1, 0))
    for data in (
        tiff(values, photometric="rgb", **options),
        tiff(values, photometric="rgb", bigtiff=True, **options),
        tiff(planes, photometric="rgb", planarconfig="separate", **options),
    ):
        np.testing.assert_array_equal(decode(data, ""), values)
    grey, white = values[..., 0], 2**bits - 1
    inverted = decode(tiff(white - grey, photometric="miniswhite", **options), "")
    np.testing.assert_array_equal(inverted, np.repeat(grey[..., None], 3, axis=2))


def test_tiff_of_premultiplied_alpha():
    values = np.array([[[10000, 0, 20000, 32768], [7, 7, 7, 0]]], np.uint16)
    pixels = decode(tiff(values, photometric="rgb", extrasamples=["assocalpha"]), "")
    np.testing.assert_allclose(pixels[0, 0], (20000, 0, 39999, 32768), atol=1)


def test_tiff_that_only_other_libraries_decompress():
    pixels = smooth(20, 40)
    for compression in ("tiff_lzw", "group4"):
        source = Image.fromarray(pixels).convert("1" if compression == "group4" else "RGB")
        data = encode(source, "TIFF", compression=compression)
        np.testing.assert_array_equal(read_image(data), np.asarray(source.convert("RGB")))
    deep = np.random.default_rng(0).integers(0, 2**16, (9, 16, 3), np.uint16)
    lzw = cv2.imencode(".tiff", deep, (cv2.IMWRITE_TIFF_COMPRESSION, 5))[1].tobytes()
    np.testing.assert_array_equal(decode(lzw, ""), deep[..., ::-1])


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint32])
def test_tiff_without_a_fixed_range_is_refused(dtype):
    with pytest.raises(ValueError, match="bits a channel: save it with 8 or 16"):
        read_image(tiff(np.ones((4, 4), dtype)))


def huge_png(colour_type: int) -> bytes:
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, colour_type, 0, 0, 0)
    pixels = zlib.compress(bytes(100_000_000), 9)
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def test_huge_pictures_are_refused_from_their_headers():
    tiff_header = bytearray(tiff(np.zeros((4, 4), np.uint8), metadata=None))
    with tifffile.TiffFile(io.BytesIO(tiff_header)) as file:
        for tag in ("ImageWidth", "ImageLength"):
            entry = file.pages[0].tags[tag]
            struct.pack_into("<HI", tiff_header, entry.offset + 2, 4, 1)
            struct.pack_into("<I", tiff_header, entry.offset + 8, 30000)
    for data in (huge_png(0), huge_png(2), huge_png(6), bytes(tiff_header)):
        start = time.perf_counter()
        for read in (read_image, read_mask):
            with pytest.raises(ValueError, match="over 178.957 megapixels"):
                read(data)
        assert time.perf_counter() - start < 0.5


def test_read_image_knows_sides_that_opencv_refuses():
    pixels = np.zeros((1, 2**20 + 1, 3), np.uint8)
    pixels[0, -1] = RED
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(pixels), "PNG")), pixels)


def test_read_image_errors_name_the_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.png"):
        read_image(tmp_path / "absent.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cut = encode(Image.fromarray(noise), "PNG")[:5000]
    for name, data in {"text.png": b"no picture", "empty.jpg": b"", "cut.png": cut}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)
    jpeg = encode(Image.fromarray(smooth(200, 200)), "JPEG")
    with pytest.raises(ValueError, match="damaged"):
        read_image(jpeg[: len(jpeg) // 2])


def test_read_mask_polarity_and_threshold():
    data = encode(Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)), "PNG")
    mask = read_mask(data)
    assert mask.dtype == np.uint8 and mask.shape == (1, 4, 1)
    assert mask.ravel().tolist() == [0, 0, 1, 1]
    assert read_mask(data, convention="black_is_hole").ravel().tolist() == [1, 1, 0, 0]


def grey_png(*values, dtype=np.uint8) -> bytes:
    return cv2.imencode(".png", np.array([values], dtype))[1].tobytes()


def rgb_png(*colours) -> bytes:
    return encode(Image.fromarray(np.array([colours], np.uint8)), "PNG")


def voc_png(*labels) -> bytes:
    picture = Image.fromarray(np.array([labels], np.uint8), "P")
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 15 + [64, 0, 0])  # 8: a cat
    return encode(picture, "PNG")


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (grey_png(0, 1, 1), [0, 255, 255]),
        (grey_png(0, 76), [0, 255]),
        (grey_png(0, 3, 15), [0, 255, 255]),  # labels of classes
        (grey_png(0, 60, 128, 255), [0, 60, 128, 255]),  # a soft edge
        (grey_png(7, 7), [255, 255]),
        (grey_png(0, 0), [0, 0]),
        (grey_png(0, 255, dtype=np.uint16), [0, 255]),
        (grey_png(0, 100, 255, dtype=np.uint16), [0, 100, 255]),  # 8 bits in a file of 16
        (grey_png(0, 257 * 100, 65535, dtype=np.uint16), [0, 100, 255]),
        (rgb_png((0, 0, 0), (255, 0, 0)), [0, 255]),
        (rgb_png((0, 0, 0), (0, 0, 255), (255, 0, 0), (0, 255, 0)), [0, 255, 255, 255]),
        (rgb_png((0, 0, 0), (4, 0, 1), (64, 0, 0), (192, 0, 0)), [0, 0, 255, 255]),
        (voc_png(0, 1, 2, 8), [0, 255, 255, 255]),
    ],
)
def test_read_coverage_takes_every_marked_pixel_as_hole(mask, expected):
    coverage = read_coverage(mask)
    assert coverage.dtype == np.uint8 and coverage.shape == (1, len(expected), 1)
    assert coverage.ravel().tolist() == expected
    assert read_mask(mask).ravel().tolist() == [int(value >= 128) for value in expected]
    inverse = read_coverage(mask, convention="black_is_hole")
    np.testing.assert_array_equal(inverse, 255 - coverage)


def test_read_mask_takes_alpha_unless_it_is_uniform():
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, 1, 3] = 255
    assert read_mask(encode(Image.fromarray(rgba), "PNG")).ravel().tolist() == [0, 1]
    opaque = np.full((1, 2, 4), 255, np.uint8)
    opaque[0, 0, :3] = 0
    assert read_mask(encode(Image.fromarray(opaque), "PNG")).ravel().tolist() == [0, 1]


def test_read_mask_errors():
    data = encode(Image.new("L", (4, 3)), "PNG")
    with pytest.raises(ValueError, match="3 x 4 but must be 8 x 8"):
        read_mask(data, size=(8, 8))
    assert read_mask(data, size=(3, 4)).sum() == 0
    with pytest.raises(ValueError, match="white_is_hole, black_is_hole"):
        read_mask(data, convention="grey")


def test_write_image_round_trip_and_no_remains(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 5, 3), np.uint8)
    write_image(tmp_path / "new" / "a.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), pixels)
    write_image(tmp_path / "new" / "b.png", pixels[..., :1])
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "b.png")[..., :1], pixels[..., :1])
    with pytest.raises(ValueError, match="float32"):
        write_image(tmp_path / "new" / "c.png", pixels.astype(np.float32))
    assert sorted(os.listdir(tmp_path / "new")) == ["a.png", "b.png"]


def test_resize_and_crop_takes_the_centre():
    image = np.zeros((4, 12, 3), np.uint8)
    image[:, 4:8] = RED
    assert (resize_and_crop(image, 4) == RED).all()
    assert (resize_and_crop(image, 2) == RED).all()
    assert (resize_and_crop(image, 16) == RED).all()
    unchanged = smooth(8, 8)
    np.testing.assert_array_equal(resize_and_crop(unchanged, 8), unchanged)


def test_resize_averages_along_a_side_that_shrinks_though_the_other_grows():
    stripes = np.zeros((8, 40, 3), np.uint8)
    stripes[:, ::2] = 200
    for picture in (stripes, stripes.swapaxes(0, 1)):
        np.testing.assert_array_equal(resize(picture, 20, 20), np.full((20, 20, 3), 100))


def test_resize_and_crop_averages_areas_and_takes_extreme_shapes():
    checkers = (np.indices((8, 8)).sum(0) % 2 * 200).astype(np.uint8)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(resize_and_crop(checkers, 4), np.full((4, 4, 3), 100))
    assert resize_and_crop(smooth(20, 3000), 64).shape == (64, 64, 3)
    assert resize_and_crop(smooth(1, 1), 64).shape == (64, 64, 3)
    assert resize_and_crop(np.zeros((9, 9, 1), np.uint8), 4).shape == (4, 4, 1)
    with pytest.raises(ValueError, match=r"size \(0\)"):
        resize_and_crop(checkers, 0)


def test_contact_sheet_places_pictures_and_heads():
    red, blue = np.full((8, 8, 3), RED, np.uint8), np.full((4, 8, 3), (0, 0, 255), np.uint8)
    mask = np.ones((8, 8, 1), np.uint8)
    bare = contact_sheet([[red, blue, mask], [blue]], cell=32)
    assert bare.dtype == np.uint8 and bare.shape == (2 * 34 + 2, 3 * 34 + 2, 3)
    assert (bare[2 + 16, 2 + 16] == RED).all()
    assert (bare[2 + 16, 2 + 34 + 16] == (0, 0, 255)).all()
    assert (bare[2 + 2, 2 + 34 + 16] == 255).all()  # a wide picture keeps its shape
    assert (bare[2 + 16, 2 + 2 * 34 + 16] == 255).all()  # a hole is white
    assert (bare[2 + 34 :, 2 + 34 :] == 255).all()  # a short row leaves room
    headed = contact_sheet([[red, blue, mask]], labels=("a", "b", "a very long head"), cell=32)
    assert headed.shape[0] > 34 + 2 and (headed[: headed.shape[0] - 34] < 200).any()


def test_contact_sheet_errors():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([[]])
    with pytest.raises(ValueError, match="1 labels for 2 columns"):
        contact_sheet([[np.zeros((2, 2, 3), np.uint8)] * 2], labels=("a",))
