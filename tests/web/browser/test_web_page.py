"""`python demo.py` as its readers meet it, in headless Chromium. Run by `make test-browser`."""

import io
import re
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from playwright.sync_api import Browser, Page, expect

from tests.web.browser.server import Server, launch_chromium
from uctgan_jax.images import read_image
from uctgan_jax.inpainting.image_file import Picture, read_picture
from uctgan_jax.web.pictures import brushed_hole, view

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
pytestmark = pytest.mark.browser

# For a page that hangs, not for a busy machine: what works goes on at once.
TIMEOUT = 600_000
expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def server(inpainter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    inpainter.save(folder / "model")
    with Server(folder / "model", folder) as server:
        yield server


@pytest.fixture(scope="module")
def chromium():
    with launch_chromium() as browser:
        yield browser


def open_page(chromium: Browser, server: Server, **options) -> Page:
    page = chromium.new_page(**options)
    page.set_default_timeout(TIMEOUT)
    page.requested = []
    page.on("request", lambda request: page.requested.append(request.url))
    page.goto(server.url)
    expect(page.locator("#brush canvas")).to_be_visible()  # the first example is there
    return page


@pytest.fixture
def page(chromium, server):
    page = open_page(chromium, server, viewport={"width": 1280, "height": 900})
    yield page
    page.close()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, icc_profile=PROFILE)
    return path


def upload(page: Page, path: Path) -> None:
    """Chooses a picture, and waits until the brush has it: 90 x 60 is shown as 540 x 360."""
    page.locator("#upload input[type=file]").set_input_files(path)
    expect(page.locator("#brush canvas")).to_have_attribute("width", "540")


def add_reference(page: Page, path: Path) -> None:
    page.get_by_text("Follow a reference picture").click()
    with page.expect_file_chooser() as waiting:
        page.get_by_role("button", name="Choose a reference picture").click()
    waiting.value.set_files(path)


def brush(page: Page) -> np.ndarray:
    """Brushes a line over the middle of the picture; returns the hole, uint8 [60, 90]."""
    canvas = page.locator("#brush canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.4, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, y, steps=5)
    page.mouse.up()
    return brushed_hole(canvas.evaluate("canvas => canvas.toDataURL()"), 60, 90)


def complete(page: Page, number: int = 4) -> None:
    page.get_by_label(str(number), exact=True).check()
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.locator("#completions img")).to_have_count(number)


def gallery(page: Page) -> list[np.ndarray]:
    """The pictures of the gallery as the browser gets them."""
    sources = page.locator("#completions img").evaluate_all("all => all.map(one => one.src)")
    return [read_image(page.request.get(source).body()) for source in sources]


def keep(page: Page, index: int) -> None:
    page.locator("#completions button.thumbnail-item").nth(index).click()
    expect(page.locator("#kept img")).to_be_visible()


def kept_source(page: Page) -> str:
    return page.locator("#kept img").get_attribute("src")


def download(page: Page) -> Picture:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename.endswith(".png")
    return read_picture(waiting.value.path())


def test_from_an_upload_to_a_downloaded_completion(page, server, picture):
    upload(page, picture)
    hole = brush(page)
    assert 0.02 < hole.mean() < 0.3
    complete(page)
    pictures = gallery(page)
    assert len({shown.tobytes() for shown in pictures}) == 4

    keep(page, 2)
    image, downloaded = read_image(picture), download(page)
    assert downloaded.icc_profile == PROFILE
    result = downloaded.pixels
    np.testing.assert_array_equal(result[hole == 0], image[hole == 0])
    assert (result[hole > 0] != image[hole > 0]).any(axis=-1).mean() > 0.9
    np.testing.assert_allclose(view(result).astype(int), pictures[2], atol=1)

    # Along the manifold to the first completion.
    middle = kept_source(page)
    page.locator("#distance input[type=range]").fill("100")
    expect(page.locator("#kept img")).not_to_have_attribute("src", middle)
    np.testing.assert_allclose(view(download(page).pixels).astype(int), pictures[0], atol=1)

    # The kept completion is the next picture, with nothing brushed and nothing completed.
    page.get_by_role("button", name="Use as next picture").click()
    expect(page.locator("#completions img")).to_have_count(0)
    expect(page.locator("#kept")).to_be_hidden()
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.get_by_text("Nothing is brushed yet")).to_be_visible()

    assert "Traceback" not in server.log.read_text()


def test_an_example_is_ready_and_others_can_be_drawn(page):
    complete(page)
    expect(page.locator("#time")).to_contain_text(re.compile(r"4 completions in \d+\.\d\d s"))
    before = gallery(page)
    first = page.locator("#completions img").first
    source = first.get_attribute("src")
    page.get_by_role("button", name="Draw others").click()
    expect(first).not_to_have_attribute("src", source)
    after = gallery(page)
    assert len({shown.tobytes() for shown in before + after}) == 8

    shown = page.locator("#brush img").get_attribute("src")
    page.locator("#examples button.thumbnail-item").nth(3).click()
    expect(page.locator("#brush img")).not_to_have_attribute("src", shown)
    expect(page.locator("#completions img")).to_have_count(0)


def test_a_reference_is_followed(page, picture):
    add_reference(page, picture)
    expect(page.locator("#reference_view img")).to_be_visible()
    page.get_by_label("4", exact=True).check()
    page.get_by_role("button", name="Complete", exact=True).click()
    expect(page.locator("#completions img")).to_have_count(5)
    expect(page.locator("#completions .caption-label").last).to_have_text("reference")

    keep(page, 0)
    target = page.get_by_label("Walk towards completion")
    expect(target).to_have_value("reference")

    page.get_by_role("button", name="Remove it").click()
    expect(page.locator("#reference_view")).to_be_hidden()
    complete(page)


def test_the_brush_can_be_taken_back(page, picture):
    upload(page, picture)
    assert brush(page).any()

    def strokes_left() -> bool:
        return page.locator("#brush canvas").evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
            ".data.some(value => value > 0)"
        )

    page.get_by_role("button", name="Clear").click()
    assert not strokes_left()
    page.get_by_role("button", name="Undo").click()
    assert strokes_left()
    page.get_by_role("button", name="Eraser").click()
    page.get_by_label("Brush size").fill("30")
    canvas = page.locator("#brush canvas").bounding_box()
    for part in (0.35, 0.5, 0.65):
        page.mouse.click(canvas["x"] + canvas["width"] * part, canvas["y"] + canvas["height"] / 2)
    assert not strokes_left()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no picture", "not a picture that can be read"),
        ("half", "This picture is damaged"),
        ("huge", "The picture has 5000 x 5000 pixels"),
    ],
)
@pytest.mark.parametrize("place", ["upload", "reference"])
def test_a_bad_upload_is_a_message(page, server, picture, tmp_path, content, message, place):
    if content == "half":
        content = picture.read_bytes()[:5000]
    elif content == "huge":
        file = io.BytesIO()
        Image.new("1", (5000, 5000)).save(file, "png")
        content = file.getvalue()
    bad = tmp_path / "bad.png"
    bad.write_bytes(content)
    if place == "reference":
        add_reference(page, bad)
    else:
        page.locator("#upload input[type=file]").set_input_files(bad)
    expect(page.get_by_text(message)).to_be_visible()
    assert "Traceback" not in server.log.read_text()
    expect(page.get_by_text("Error", exact=True)).to_have_count(0)
    # The page goes on with the picture that it had, ready for another upload.
    expect(page.locator("#upload input[type=file]")).to_have_count(1)
    complete(page)


def test_an_upload_beyond_the_limit_is_a_message(page, tmp_path):
    large = tmp_path / "large.png"
    large.write_bytes(bytes(21 * 2**20))
    page.locator("#upload input[type=file]").set_input_files(large)
    expect(page.get_by_text("exceed the maximum allowed size of 20")).to_be_visible()


def test_a_phone(chromium, server):
    page = open_page(
        chromium,
        server,
        viewport={"width": 390, "height": 844},
        is_mobile=True,
        has_touch=True,
        device_scale_factor=2,
    )

    def overflow() -> int:
        return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")

    assert page.evaluate("window.innerWidth") == 390 and overflow() <= 0
    page.get_by_role("button", name="Clear").click()
    page.locator("#brush canvas").tap()
    complete(page)
    keep(page, 1)
    page.get_by_text("Follow a reference picture").click()
    assert overflow() <= 0
    page.close()


def test_readers_have_their_own_pictures(chromium, page, server, picture):
    other = open_page(chromium, server)
    upload(other, picture)
    hole = brush(other)
    complete(page)  # the example, in between
    complete(other)
    keep(page, 0)
    keep(other, 0)
    assert download(page).pixels.shape == (64, 64, 3)  # the example
    image = read_image(picture)
    np.testing.assert_array_equal(download(other).pixels[hole == 0], image[hole == 0])
    other.close()


def test_nothing_leaves_the_machine(page, server):
    complete(page)
    keep(page, 0)
    allowed = (server.url, "data:", "blob:")
    assert [url for url in page.requested if not url.startswith(allowed)] == []
    for line in server.connections.read_text().splitlines():
        assert re.search(r"127\.0\.0\.1|localhost|::1|^socket.connect [/b']", line), line


def test_only_this_machine_is_listened_to(server):
    """Another address of the same machine is refused: 127.0.0.1 alone is bound."""
    with socket.socket() as other:
        assert other.connect_ex(("127.0.0.2", server.port)) != 0


def test_stopping_deletes_what_readers_made(chromium, inpainter, tmp_path, picture):
    inpainter.save(tmp_path / "model")
    with Server(tmp_path / "model", tmp_path) as server:
        page = open_page(chromium, server)
        upload(page, picture)
        brush(page)
        complete(page)
        keep(page, 0)
        assert list(server.files.rglob("picture.png")) and list(server.files.rglob("completion.*"))
        page.close()
    assert not list(server.files.rglob("picture.png"))
    assert not list(server.files.rglob("completion.*"))
