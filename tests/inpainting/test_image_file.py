"""Picture files read, completed and written again: depth, alpha, profile, orientation."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

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
    deep = type(deep)(deep.pixels, deep.stored, with_profile.icc_profile)
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
    assert "exif" not in Image.open(tmp_path / "out.png").info


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


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.png"):
        read_picture(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="not a picture"):
        read_picture(b"text")
    wide = encode(RNG.integers(0, 2**30, (4, 4), dtype=np.int32), "TIFF")
    with pytest.raises(ValueError, match="32 bits a channel"):
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
