"""The examples of the documentation give what they say."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from uctgan_jax.images import write_image

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def folder(tmp_path, monkeypatch, inpainter, picture_folder):
    """What the examples find in the current folder."""
    inpainter.save(tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((60, 90, 3), np.uint8)
    mask[20:40, 30:60] = 255
    write_image(tmp_path / "picture.png", image)
    write_image(tmp_path / "mask.png", mask)
    (tmp_path / "pictures").symlink_to(picture_folder)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["api.md"])
def test_examples(page, folder):
    text = (DOCS / page).read_text()
    names: dict = {}
    runner = doctest.DocTestRunner()
    for block in re.finditer(r"```pycon\n(.*?)```", text, re.DOTALL):
        line = text[: block.start(1)].count("\n")
        example = doctest.DocTestParser().get_doctest(block[1], names, page, str(DOCS / page), line)
        runner.run(example, clear_globs=False)
        names = example.globs
    assert runner.tries > 40
    assert runner.failures == 0


def slugs(text):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def pages():
    root = DOCS.parent
    return [
        root / "README.md",
        *DOCS.glob("*.md"),
        *(root / "uctgan_jax" / "pretrained").glob("*/README.md"),
    ]


@pytest.mark.parametrize("page", pages(), ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), link
        if anchor:
            assert anchor in slugs(there.read_text()), link
