"""Takes the picture of the web page that the documentation shows.

    python -m tests.web.browser.screenshot --checkpoint=DIR --output=docs/web_page.png

`--width=390` takes it as a phone sees it, `--dark` in dark colours.
"""

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.web.browser.server import Server, launch_chromium


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, help="what demo.py takes")
    parser.add_argument("--output", required=True, type=Path, help="a PNG file")
    parser.add_argument("--example", type=int, default=0, help="which example, from 0")
    parser.add_argument("--keep", type=int, default=1, help="which completion to keep, from 0")
    parser.add_argument("--width", type=int, default=1200, help="of the window, in pixels")
    parser.add_argument("--dark", action="store_true")
    arguments = parser.parse_args()
    expect.set_options(timeout=600_000)
    with tempfile.TemporaryDirectory() as folder, launch_chromium() as browser:
        # Absolute, since the server runs in the repository's root; a name stays a name.
        checkpoint = Path(arguments.checkpoint)
        checkpoint = checkpoint.resolve() if checkpoint.exists() else arguments.checkpoint
        with Server(checkpoint, Path(folder)) as server:
            page = browser.new_page(
                viewport={"width": arguments.width, "height": 900},
                color_scheme="dark" if arguments.dark else "light",
            )
            page.goto(server.url)
            expect(page.locator("#brush canvas")).to_be_visible()
            page.locator("#examples button.thumbnail-item").nth(arguments.example).click()
            page.wait_for_timeout(1000)
            page.get_by_role("button", name="Complete", exact=True).click()
            expect(page.locator("#completions img")).to_have_count(8)
            page.locator("#completions button.thumbnail-item").nth(arguments.keep).click()
            expect(page.locator("#kept img")).to_be_visible()
            page.mouse.move(0, 0)
            page.wait_for_timeout(1000)  # until nothing fades or moves any more
            picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    # A palette, dithered, keeps the file small.
    picture = picture.convert("RGB")
    palette = picture.quantize(256)
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(
        arguments.output, optimize=True
    )
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
