"""Takes the picture of the web page that the documentation shows.

    python -m tests.web.browser.screenshot --checkpoint=DIR --output=docs/web_page.png

`--width=390` takes it as a phone sees it, `--dark` in dark colours.
"""

import io
import tempfile
from pathlib import Path

from absl import flags
from PIL import Image
from playwright.sync_api import expect

from tests.web.browser.server import Server, launch_chromium
from uctgan_jax import command_line

FLAGS = flags.FlagValues()
_CHECKPOINT = command_line.define_path(
    "checkpoint", None, "What demo.py takes.", FLAGS, required=True
)
_OUTPUT = command_line.define_path("output", None, "A PNG file.", FLAGS, required=True)
_EXAMPLE = flags.DEFINE_integer("example", 0, "Which example, from 0.", flag_values=FLAGS)
_KEEP = flags.DEFINE_integer("keep", 1, "Which completion to keep, from 0.", flag_values=FLAGS)
_WIDTH = flags.DEFINE_integer("width", 1200, "Of the window, in pixels.", flag_values=FLAGS)
_DARK = flags.DEFINE_bool("dark", False, "In dark colours.", flag_values=FLAGS)


def main() -> None:
    expect.set_options(timeout=600_000)
    with tempfile.TemporaryDirectory() as folder, launch_chromium() as browser:
        # Absolute, since the server runs in the repository's root; a name stays a name.
        checkpoint = _CHECKPOINT.value
        checkpoint = checkpoint.resolve() if checkpoint.exists() else checkpoint
        with Server(checkpoint, Path(folder)) as server:
            page = browser.new_page(
                viewport={"width": _WIDTH.value, "height": 900},
                color_scheme="dark" if _DARK.value else "light",
            )
            page.goto(server.url)
            expect(page.locator("#brush canvas")).to_be_visible()
            page.locator("#examples button.thumbnail-item").nth(_EXAMPLE.value).click()
            page.wait_for_timeout(1000)
            page.get_by_role("button", name="Complete", exact=True).click()
            expect(page.locator("#completions img")).to_have_count(8)
            page.locator("#completions button.thumbnail-item").nth(_KEEP.value).click()
            expect(page.locator("#kept img")).to_be_visible()
            page.mouse.move(0, 0)
            page.wait_for_timeout(1000)  # until nothing fades or moves any more
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    # A palette, dithered, keeps the file small.
    picture = picture.convert("RGB")
    palette = picture.quantize(256)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(
        _OUTPUT.value, optimize=True
    )
    print(f"{_OUTPUT.value}: {_OUTPUT.value.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    command_line.run(main, FLAGS)
