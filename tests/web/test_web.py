"""What the page does with pictures, strokes and codes; `tests/browser` drives the page itself."""

import base64
import io
import struct
import zlib

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from uctgan_jax.images import write_image
from uctgan_jax.inpainting.image_file import Picture
from uctgan_jax.web import drawing, pictures
from uctgan_jax.web.examples import examples, subject
from uctgan_jax.web.page import build_page


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:50] = 1
    return mask


def assert_refused(function, *arguments, message, **options):
    with pytest.raises(gr.Error) as error:
        function(*arguments, **options)
    assert message in error.value.message
    assert not error.value.print_exception  # the reader's slip is no line in the log


def strokes_url(alpha):
    picture = np.zeros((*alpha.shape, 4), np.uint8)
    picture[..., 3] = alpha
    return pictures.data_url(picture, "png")


class TestOpenPicture:
    def test_pixels_come_as_they_are(self, tmp_path, image):
        write_image(tmp_path / "p.png", image)
        np.testing.assert_array_equal(pictures.open_picture(tmp_path / "p.png").pixels, image)

    @pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n<b>"])
    def test_refuses_what_is_no_picture(self, tmp_path, content):
        (tmp_path / "p.png").write_bytes(content)
        assert_refused(pictures.open_picture, tmp_path / "p.png", message="not a picture")

    def test_refuses_formats_that_tell_no_size_or_run_programs(self, tmp_path, image):
        for kind in ("ICO", "EPS"):
            Image.fromarray(image).resize((32, 32)).save(tmp_path / "p.png", kind)
            assert_refused(pictures.open_picture, tmp_path / "p.png", message="not a picture")

    def test_refuses_half_a_picture(self, tmp_path, image):
        write_image(tmp_path / "p.png", image)
        data = (tmp_path / "p.png").read_bytes()
        (tmp_path / "p.png").write_bytes(data[: len(data) // 2])
        assert_refused(pictures.open_picture, tmp_path / "p.png", message="damaged")

    @pytest.mark.parametrize(
        ("width", "height"), [(5000, 5000), (9000, 20), (60_000, 60_000), (15, 400)]
    )
    def test_refuses_sizes_before_decoding(self, tmp_path, width, height):
        def chunk(kind, body):
            return (
                struct.pack(">I", len(body))
                + kind
                + body
                + struct.pack(">I", zlib.crc32(kind + body))
            )

        # The header alone: decoding it would fail in another way.
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        (tmp_path / "p.png").write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", b"")
            + chunk(b"IEND", b"")
        )
        message = "megapixels" if width > 15 else "15 x 400 pixels. It needs 16"
        assert_refused(pictures.open_picture, tmp_path / "p.png", message=message)


class TestView:
    @pytest.mark.parametrize(
        ("size", "shown"),
        [
            ((32, 32), (512, 512)),
            ((30, 40), (390, 520)),  # 13 times
            ((600, 700), (600, 700)),
            ((1000, 4000), (256, 1024)),
        ],
    )
    def test_fits_the_page(self, size, shown):
        assert pictures.view(np.zeros((*size, 3), np.uint8)).shape == (*shown, 3)


class TestBrushedHole:
    def test_grows_in_every_direction(self):
        mask = np.zeros((40, 40), np.uint8)
        mask[16:24, 10:20] = 1
        hole = pictures.brushed_hole(pictures.strokes(mask, 520, 520), 40, 40, grow=3)
        expected = np.zeros((40, 40), np.uint8)
        expected[13:27, 7:23] = 1
        np.testing.assert_array_equal(hole, expected)
        brushed = pictures.strokes(mask, 520, 520)
        assert_refused(
            lambda: pictures.brushed_hole(brushed, 40, 40, grow=17), message="0 to 16 pixels"
        )

    @pytest.mark.parametrize("size", [(32, 32), (30, 40), (600, 700)])
    def test_a_hole_shown_is_the_hole_read(self, size):
        mask = np.zeros(size, np.uint8)
        mask[size[0] // 4 : size[0] // 2, size[1] // 3 : size[1] // 2] = 1
        shown = pictures.view(np.zeros((*size, 3), np.uint8))
        hole = pictures.brushed_hole(pictures.strokes(mask, *shown.shape[:2]), *size)
        assert hole.dtype == np.uint8
        np.testing.assert_array_equal(hole, mask)

    def test_every_pixel_that_the_brush_touched_is_hole(self):
        alpha = np.zeros((512, 512), np.uint8)
        alpha[100, 100] = 255  # one of the 16 x 16 that show a pixel
        hole = pictures.brushed_hole(strokes_url(alpha), 32, 32)
        assert hole.sum() == 1 and hole[6, 6] == 1

    def test_on_a_large_picture_the_stroke_keeps_its_place(self):
        alpha = np.zeros((256, 1024), np.uint8)
        alpha[64:128, 512:768] = 255
        hole = pictures.brushed_hole(strokes_url(alpha), 1000, 4000)
        expected = np.zeros((1000, 4000), bool)
        expected[250:500, 2000:3000] = True
        assert (hole != expected).mean() < 0.001

    def test_refuses_nothing_and_everything(self):
        alpha = np.zeros((64, 64), np.uint8)
        for brushed in (None, "", strokes_url(alpha)):
            assert_refused(pictures.brushed_hole, brushed, 64, 64, message="Nothing is brushed yet")
        assert_refused(
            pictures.brushed_hole, strokes_url(alpha + 255), 64, 64, message="Everything is brushed"
        )

    def test_refuses_what_no_brush_sends(self):
        jpeg = io.BytesIO()
        Image.new("RGB", (8, 8)).save(jpeg, "jpeg")
        texts = [
            "data:image/png;base64,",
            "data:image/png;base64,????",
            "/etc/passwd",
            "data:image/png;base64," + base64.b64encode(jpeg.getvalue()).decode(),
            "data:image/png;base64," + "A" * (pictures.MAX_STROKES + 1),
            strokes_url(np.full((1, pictures.MAX_VIEW_SIDE + 1), 255, np.uint8)),
        ]
        for text in texts:
            assert_refused(pictures.brushed_hole, text, 64, 64, message="did not arrive whole")


class TestDraw:
    def test_completions_and_the_reference_last(self, inpainter, image, mask):
        reference = image[::-1].copy()
        made, completed = drawing.draw(
            inpainter, Picture(image, image), mask, num_samples=4, seed=3, reference=reference
        )
        assert made.names == ("1", "2", "3", "4", "reference")
        completed = np.stack(completed)
        assert completed.shape == (5, 48, 64, 3) and len(made.codes) == 5
        np.testing.assert_array_equal(
            completed[:4], inpainter.complete(image, mask, num_samples=4, seed=3).images
        )
        np.testing.assert_array_equal(
            completed[4:], inpainter.complete(image, mask, instances=[reference]).images
        )
        assert len({picture.tobytes() for picture in completed}) == 5
        np.testing.assert_array_equal(completed[:, mask == 0], np.stack([image[mask == 0]] * 5))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (dict(num_samples=5, seed=0), "How many must be one of 4, 8, 12, 16"),
            (dict(num_samples=4, seed=-1), "from 0 to 2147483647"),
            (dict(num_samples=4, seed=0, select="<best>"), "&lt;best&gt;"),
        ],
    )
    def test_refuses_what_the_page_does_not_offer(self, inpainter, image, mask, options, message):
        picture = Picture(image, image)
        assert_refused(drawing.draw, inpainter, picture, mask, message=message, **options)


class TestWalk:
    def test_from_one_completion_to_another(self, inpainter, image, mask):
        made, completed = drawing.draw(
            inpainter, Picture(image, image), mask, num_samples=4, seed=0
        )
        start, middle, end = (
            drawing.walk(inpainter, made, start=1, end=3, percent=percent)
            for percent in (0, 50, 100)
        )
        # Compiled for one code, not for four: a rounding may fall the other way.
        assert np.abs(start.astype(int) - completed[1]).max() <= 1
        assert np.abs(end.astype(int) - completed[3]).max() <= 1
        assert (middle != start).any() and (middle != end).any()
        np.testing.assert_array_equal(middle[mask == 0], image[mask == 0])


@pytest.mark.parametrize(("source", "side"), [("avatars", 32), ("folder:faces", 64)])
def test_examples_are_portraits_with_a_hole_in_the_face(source, side):
    found = examples(source, 32)
    assert len(found) > 3
    for picture, mask in found:
        assert picture.pixels.shape == (side, side, 3) and mask.shape == (side, side)
        assert 0.2 < mask.mean() < 0.4 and picture.pixels[mask > 0].std() > 20


def test_the_page_says_what_the_model_completes():
    assert subject("avatars") == "cartoon portraits"
    assert subject("folder:mine") == "pictures like those that it was trained on"


def test_the_page_sends_nothing_home_and_shows_no_api(inpainter):
    page = build_page(inpainter)
    assert not page.analytics_enabled
    assert all(event.api_visibility == "private" for event in page.fns.values())
    # One at a time on the model, whichever event asks.
    assert len([event for event in page.fns.values() if event.concurrency_id == "model"]) >= 4
