import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from uctgan_jax import report as reports
from uctgan_jax.evaluation import BEST, DIVERSITY
from uctgan_jax.posterior_benchmark import FIGURES


def figures(offset=0.0):
    return {
        "samples": {
            name: {"mean_of_k": offset + 0.25 + i, "best_of_k": None} for i, name in enumerate(BEST)
        },
        "reconstruction": dict.fromkeys(BEST, 0.5),
        "mean_colour_fill": dict.fromkeys(BEST, 0.75),
        "diversity": dict(zip(DIVERSITY, (0.031, 0.093, 0.2), strict=True)),
        "known_pixels_identical": True,
    }


COMMON = {
    "num_examples": 7,
    "num_samples": 3,
    "seed": 1,
    "checkpoint": {"step": 42, "digest": "abc"},
    "command": "python evaluate.py --workdir=<b>",
}


@pytest.fixture(params=["paper", "posterior"])
def report(request):
    if request.param == "posterior":
        systems = {name: dict.fromkeys(FIGURES, 0.125) for name in ("model", "oracle")}
        return {"protocol": "posterior", "figures": systems, "ideal": FIGURES, **COMMON}
    bins = {s: {"num_examples": 3, **figures(100)} for s in ("0-10 %", "10-20 %")}
    return {
        "protocol": "paper",
        "figures": figures(),
        "by_hole_share": bins,
        "variants": dict.fromkeys(DIVERSITY, "LPIPS & <so on>"),
        "sets": {"frechet_distance": 12.3456},
        "features": {"network": "VGG16", "frechet_distance": "FD-vgg16, not FID"},
        **COMMON,
    }


def cells(report):
    return [cell for _, _, _, rows in reports.sections(report) for row in rows for cell in row]


class Page(HTMLParser):
    """Collects cells, open tags and pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.sources = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_the_page_holds_every_cell_and_needs_no_other_file(report):
    sheet = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    text = reports.to_html(report, sheet)
    page = Page(text)
    assert not page.open  # every tag is closed, in order
    assert page.cells == cells(report)
    (source,) = page.sources
    picture = Image.open(
        io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))
    )
    np.testing.assert_array_equal(np.asarray(picture), sheet)
    assert "http" not in text and "<b>" not in text


def test_markdown_tables_hold_every_cell(report):
    text = reports.to_markdown(report, "contact_sheet.png")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    found = [cell.strip() for row in rows for cell in row]
    assert all(cell in found for cell in cells(report))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "![contact sheet](contact_sheet.png)" in text


def test_published_figures_carry_their_certainty(report):
    if report["protocol"] == "paper":
        assert "from memory, not confirmed" in cells(report)
        assert cells(report).count("published, confirmed") == 4
