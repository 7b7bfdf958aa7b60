import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from uctgan_jax.avatars.benchmark import FIGURES
from uctgan_jax.evaluation import report as reports
from uctgan_jax.evaluation.evaluate import BEST, DIVERSITY


def figures(offset=0.0):
    return {
        "samples": {
            name: {"mean_of_k": offset + 0.25 + i, "best_of_k": None} for i, name in enumerate(BEST)
        },
        "reconstruction": dict.fromkeys(BEST, 0.5),
        "mean_colour_fill": dict.fromkeys(BEST, 0.75),
        "diversity": dict(zip(DIVERSITY, (0.031, 0.093, 0.2), strict=True)),
        "known_pixels_changed": 0,
        "known_l1": 0.0,
    }


def bins(offset):
    return {s: {"num_examples": 3, **figures(offset)} for s in ("0-10 %", "10-20 %")}


FEATURES = {
    "network": "VGG16",
    "frechet_distance": "FD-vgg16, not FID",
    "short_name": "FD-vgg16",
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
    return {
        "protocol": "paper",
        "figures": figures(),
        "by_hole_share": bins(100),
        "num_pairs": 3,
        "variants": dict.fromkeys(DIVERSITY, "LPIPS & <so on>"),
        "sets": {"frechet_distance": 12.3456},
        "features": FEATURES,
        **COMMON,
    }


@pytest.fixture
def two_systems():
    """A report with another program beside the model."""
    other = figures(10) | {"reconstruction": None, "known_pixels_changed": 4, "known_l1": 0.0625}
    return {
        "protocol": "paper",
        "figures": figures(),
        "by_hole_share": bins(100),
        "num_pairs": 3,
        "variants": dict.fromkeys(DIVERSITY, "LPIPS"),
        "sets": {"frechet_distance": 12.5},
        "features": FEATURES,
        "compared": {
            "other": {
                "figures": other,
                "by_hole_share": bins(200),
                "sets": {"frechet_distance": 99.5},
            }
        },
        **COMMON,
    }


@pytest.fixture
def over_training(report):
    """The report with a curve of three checkpoints."""
    main = report["figures"]["model"] if report["protocol"] == "posterior" else report["figures"]
    points = [
        {"step": step, "figures": main, "sets": {"frechet_distance": 100.0 / step}}
        for step in (10, 20, 40)
    ]
    return {**report, "training": points}


def cells(report):
    tables = reports.sections(report) + reports.by_hole_share(report)
    return [cell for _, _, _, rows in tables for row in rows for cell in row]


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
    text = reports.to_html(report, {"first <pictures>": sheet, "most diverse": sheet})
    page = Page(text)
    assert not page.open  # every tag is closed, in order
    assert page.cells == cells(report)
    assert len(page.sources) == 2
    for source in page.sources:
        picture = Image.open(
            io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))
        )
        np.testing.assert_array_equal(np.asarray(picture), sheet)
    assert "http" not in text and "<b>" not in text and "<pictures>" not in text


def test_markdown_tables_hold_every_cell(report):
    text = reports.to_markdown(report, {"first pictures": "a.png", "most diverse": "b.png"})
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    found = [cell.strip() for row in rows for cell in row]
    assert all(cell in found for cell in cells(report))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "![first pictures](a.png)" in text and "![most diverse](b.png)" in text
    assert "curves" not in text


def test_published_figures_carry_their_certainty(report):
    if report["protocol"] == "paper":
        assert "from memory, not confirmed" in cells(report)
        assert cells(report).count("published, confirmed") == 4
    else:
        assert "published, confirmed" not in cells(report)


def test_two_systems_stand_side_by_side(two_systems):
    against_truth, diversity, sets = reports.sections(two_systems)
    _, note, columns, rows = against_truth
    assert columns == [
        "figure",
        "model: mean of K",
        "model: best of K",
        "model: reconstruction",
        "other: mean of K",
        "other: best of K",
        "mean colour fill",
    ]
    assert rows[0] == ["l1 (less)", "0.2500", "-", "0.5000", "10.2500", "-", "0.7500"]
    assert "model: identical" in note and "other: ALTERED in 4 completions, by 0.0625" in note
    assert [row[0] for row in diversity[3][:3]] == ["model", "other", "CVAE"]
    assert sets[2:] == (
        ["figure", "model", "other"],
        [["frechet_distance", "12.5000", "99.5000"]],
    )
    _, _, columns, rows = reports.by_hole_share(two_systems)[1]
    assert rows[0][columns.index("other: mean of K")] == "200.2500"


def test_the_text_is_aligned_and_leaves_out_the_shares(report, two_systems):
    for each in (report, two_systems):
        text = reports.to_text(each)
        tables = [part.splitlines()[1:] for part in text.split("\n\n")[1:]]
        assert all(len({len(line) for line in lines}) == 1 for lines in tables)
        assert "Holes of" not in text


def test_several_checkpoints_have_a_table_and_curves(over_training):
    title, _, columns, rows = reports.sections(over_training)[-1]
    assert title == "Over training"
    assert [row[0] for row in rows] == ["10", "20", "40"]
    if over_training["protocol"] == "paper":
        place = columns.index("FD-vgg16: first completions")
        assert [row[place] for row in rows] == ["10.0000", "5.0000", "2.5000"]
    svg = reports.to_svg(over_training)
    assert len(ElementTree.fromstring(svg).findall("{*}g")) == len(columns) - 1
    page = Page(reports.to_html(over_training, {}))
    assert not page.open and page.cells == cells(over_training)
    assert "](c.svg)" in reports.to_markdown(over_training, {}, "c.svg")


def test_a_figure_without_values_has_no_panel(over_training):
    """Skin that no portrait shows; the diversity of one completion."""
    panels = len(ElementTree.fromstring(reports.to_svg(over_training)).findall("{*}g"))
    figures = [over_training["figures"], *(point["figures"] for point in over_training["training"])]
    for each in figures:
        if over_training["protocol"] == "paper":
            each["diversity"] = dict.fromkeys(DIVERSITY)
        else:
            each["skin_agreement"] = None
            if "oracle" in each:
                each["oracle"]["skin_agreement"] = None
    svg = ElementTree.fromstring(reports.to_svg(over_training))
    assert len(svg.findall("{*}g")) == panels - 1
