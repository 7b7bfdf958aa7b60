"""Picture files read, completed and written again: depth, alpha, profile, orientation."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from uctgan_jax.decoding import png_chunks
from uctgan_jax.images import read_image
from uctgan_jax.inpainting.image_file import read_picture, with_completion, write_picture

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (12, 16, 4), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (12, 16, 4), dtype=np.uint16)
HOLE = np.zeros((12, 16), bool)
HOLE[3:7, 5:11] = True


def encode(pixels, format_="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


def encode_deep(pixels, extension=".png"):
    if pixels.ndim == 3:
        to_bgr = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        pixels = cv2.cvtColor(pixels, to_bgr)
    return cv2.imencode(extension, pixels)[1].tobytes()


def oriented(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def complete_and_write(path, data, mask=HOLE):
    """A grey completion of a file; what was read, and what the written file holds."""
    picture = read_picture(data)
    completion = np.full(picture.pixels.shape, 77, np.uint8)
    if mask.shape != picture.pixels.shape[:2]:
        mask = mask.T
    write_picture(path, with_completion(picture, completion, mask))
    return picture, cv2.cvtColor(
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED),
        cv2.COLOR_BGRA2RGBA if picture.stored.shape[2] == 4 else cv2.COLOR_BGR2RGB,
    )


def test_rgb_and_profile(tmp_path):
    path = tmp_path / "new" / "out.png"
    picture, written = complete_and_write(path, encode(RGB, icc_profile=PROFILE))
    np.testing.assert_array_equal(picture.pixels, RGB)
    np.testing.assert_array_equal(written[~HOLE], RGB[~HOLE])
    assert (written[HOLE] == 77).all() and written.dtype == np.uint8
    assert Image.open(path).info["icc_profile"] == PROFILE
    assert [file.name for file in path.parent.iterdir()] == ["out.png"]


def test_no_profile_where_there_was_none_or_one_of_another_space(tmp_path):
    complete_and_write(tmp_path / "out.png", encode(RGB))
    assert "icc_profile" not in Image.open(tmp_path / "out.png").info
    grey = PROFILE[:16] + b"GRAY" + PROFILE[20:]
    complete_and_write(tmp_path / "out.png", encode(RGB[..., 0], icc_profile=grey))
    assert "icc_profile" not in Image.open(tmp_path / "out.png").info


def test_alpha_is_kept_and_what_lies_under_it(tmp_path):
    data = encode(RGBA)
    picture, written = complete_and_write(tmp_path / "out.png", data)
    np.testing.assert_array_equal(picture.pixels, read_image(data))  # over white
    np.testing.assert_array_equal(written[~HOLE], RGBA[~HOLE])
    np.testing.assert_array_equal(written[..., 3], RGBA[..., 3])
    assert (written[HOLE, :3] == 77).all()


def test_an_erased_hole_becomes_opaque(tmp_path):
    erased = RGBA.copy()
    erased[HOLE, 3] = 0
    _, written = complete_and_write(tmp_path / "out.png", encode(erased))
    assert (written[HOLE, 3] == 255).all()
    np.testing.assert_array_equal(written[~HOLE], erased[~HOLE])


def test_palette_transparency(tmp_path):
    palette = Image.fromarray(RGB).quantize(8)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=0)
    expected = np.asarray(Image.open(io.BytesIO(file.getvalue())).convert("RGBA"))
    _, written = complete_and_write(tmp_path / "out.png", file.getvalue())
    np.testing.assert_array_equal(written[~HOLE], expected[~HOLE])


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_stay_16_bits(tmp_path, extension, channels):
    deep = DEEP[..., 0] if channels == 1 else DEEP[..., :channels]
    picture, written = complete_and_write(tmp_path / "out.png", encode_deep(deep, extension))
    rgb = np.repeat(deep[..., None], 3, axis=2) if channels == 1 else deep
    assert written.dtype == np.uint16
    np.testing.assert_array_equal(written[~HOLE], rgb[~HOLE])
    assert (written[HOLE, :3] == 77 * 257).all()
    if channels != 4:
        np.testing.assert_array_equal(picture.pixels, np.round(rgb / 257).astype(np.uint8))


def test_profile_of_a_16_bit_picture(tmp_path):
    with_profile, _ = complete_and_write(tmp_path / "8.png", encode(RGB, icc_profile=PROFILE))
    deep = read_picture(encode_deep(DEEP[..., :3]))
    deep = type(deep)(deep.pixels, deep.stored, with_profile.chunks)
    write_picture(tmp_path / "16.png", with_completion(deep, deep.pixels, HOLE))
    again = read_picture(tmp_path / "16.png")
    assert again.icc_profile == PROFILE
    np.testing.assert_array_equal(again.stored[~HOLE], DEEP[~HOLE][:, :3])


def test_16_bit_transparency_is_laid_over_white():
    deep = np.zeros((2, 2, 4), np.uint16)
    deep[0, 0] = 65535, 0, 0, 65535
    deep[0, 1] = 0, 0, 0, 32768
    pixels = read_picture(encode_deep(deep)).pixels
    assert pixels[0].tolist() == [[255, 0, 0], [127, 127, 127]]
    assert (pixels[1] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", [RGB, RGBA, DEEP], ids=["rgb", "rgba", "deep"])
def test_orientation_is_applied(tmp_path, orientation, pixels):
    if pixels is DEEP:
        # An eXIf chunk by hand: no library here writes one into a 16-bit PNG.
        exif = oriented(orientation).tobytes().removeprefix(b"Exif\0\0")
        chunk = b"eXIf" + exif
        chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        data = encode_deep(pixels)
        data = data[:33] + chunk + data[33:]
    else:
        data = encode(pixels, exif=oriented(orientation))
    picture, written = complete_and_write(tmp_path / "out.png", data)
    np.testing.assert_array_equal(picture.pixels.shape, read_image(data).shape)
    if pixels is RGB:
        np.testing.assert_array_equal(picture.pixels, read_image(data))
    # PIL turns any channel as the orientation says.
    channel = (pixels[..., 0] >> 8 if pixels is DEEP else pixels[..., 0]).astype(np.uint8)
    upright = read_image(encode(channel, exif=oriented(orientation)))[..., 0]
    hole = HOLE if written.shape[:2] == HOLE.shape else HOLE.T
    ours = written[..., 0] >> 8 if pixels is DEEP else written[..., 0]
    np.testing.assert_array_equal(ours[~hole], upright[~hole])
    assert 274 not in Image.open(tmp_path / "out.png").getexif()


def test_16_bit_tiff_with_orientation_and_profile(tmp_path):
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    deep = DEEP[..., :3]
    for tag, value in {
        256: 16, 257: 12, 258: (16, 16, 16), 259: 1, 262: 2, 273: 0, 274: 6, 277: 3,
        278: 12, 279: deep.nbytes, 34675: PROFILE,
    }.items():  # fmt: skip
        directory[tag] = value
    file = io.BytesIO()
    file.write(b"II*\0\x08\0\0\0")
    directory.save(file)  # sets the strip's offset, 273, to the end of what it writes
    file.write(deep.astype("<u2").tobytes())
    picture = read_picture(file.getvalue())
    np.testing.assert_array_equal(picture.stored, np.rot90(deep, -1))
    assert picture.icc_profile == PROFILE


def with_chunks(png, *chunks):
    """A PNG with more chunks after its header."""
    added = b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )
    return png[:33] + added + png[33:]


def chunks_of(path):
    return dict(png_chunks(path.read_bytes()))


@pytest.mark.parametrize("encoded", [encode(RGB), encode_deep(DEEP)], ids=["8 bits", "16 bits"])
def test_colour_information_of_png_is_kept(tmp_path, encoded):
    chunks = {
        b"gAMA": struct.pack(">I", 100000),
        b"cICP": bytes([9, 16, 0, 1]),
        b"cHRM": struct.pack(">8I", *range(30000, 30008)),
        b"pHYs": struct.pack(">IIB", 11811, 11811, 1),
    }
    plain = read_picture(encoded)
    picture, written = complete_and_write(
        tmp_path / "out.png", with_chunks(encoded, *chunks.items())
    )
    np.testing.assert_array_equal(picture.stored, plain.stored)
    np.testing.assert_array_equal(written[~HOLE], plain.stored[~HOLE])
    assert chunks.items() <= chunks_of(tmp_path / "out.png").items()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_and_resolution_are_kept_but_not_the_orientation(tmp_path, format_):
    exif = oriented(6)
    exif[271], exif[33432] = "Maker", "(c) A"
    exif[0x8769] = {36867: "2026:01:01 00:00:00", 0xA002: 16, 0xA003: 12}
    exif[0x8825] = {1: "N"}
    data, exif = exif.tobytes(), Image.Exif()  # as PIL takes it for TIFF
    exif.load(data)
    complete_and_write(tmp_path / "out.png", encode(RGB, format_, exif=exif, dpi=(300, 300)))
    with Image.open(tmp_path / "out.png") as out:
        kept = out.getexif()
        assert out.size == (12, 16)
        assert (kept[271], kept[33432]) == ("Maker", "(c) A") and 274 not in kept
        assert kept.get_ifd(0x8769) == {36867: "2026:01:01 00:00:00"}
        assert kept.get_ifd(0x8825) == {1: "N"}
        if format_ in ("JPEG", "PNG", "TIFF"):
            np.testing.assert_allclose(out.info["dpi"], 300, atol=0.1)


def test_damaged_exif_is_dropped(tmp_path):
    _, written = complete_and_write(tmp_path / "out.png", encode(RGB, exif=b"Exif\0\0II*\0damaged"))
    np.testing.assert_array_equal(written[~HOLE], RGB[~HOLE])
    assert b"eXIf" not in chunks_of(tmp_path / "out.png")


def test_pictures_wider_than_opencv_reads_are_written(tmp_path):
    for side in (1_000_001, 2**20 + 3):
        wide = np.zeros((1, side, 3), np.uint8)
        wide[0, -1] = 1, 2, 3
        write_picture(tmp_path / "wide.png", read_picture(encode(wide)))
        np.testing.assert_array_equal(read_image(tmp_path / "wide.png"), wide)


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="not a picture"):
        read_picture(b"text")
    wide = encode(RNG.integers(0, 2**30, (4, 4), dtype=np.int32), "TIFF")
    with pytest.raises(ValueError, match="32 bits a channel: save"):
        read_picture(wide)
    picture = read_picture(encode(RGB))
    with pytest.raises(ValueError, match=r"mask \(12, 15\) must have .* \(12, 16\)"):
        with_completion(picture, RGB, HOLE[:, 1:])


@pytest.mark.parametrize("exif", [Image.Exif(), oriented(6)], ids=["plain", "turned"])
def test_a_picture_beyond_the_limit_of_pixels_is_refused_by_name(tmp_path, monkeypatch, exif):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)  # half of the limit
    (tmp_path / "huge.png").write_bytes(encode(RGB, exif=exif))
    with pytest.raises(ValueError, match=r"huge.png: over 0.00018 megapixels"):
        read_picture(tmp_path / "huge.png")
