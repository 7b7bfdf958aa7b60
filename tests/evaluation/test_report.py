import base64
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from uctgan_jax.evaluation import report as reports
from uctgan_jax.evaluation import tables
from uctgan_jax.evaluation.provenance import environment
from uctgan_jax.evaluation.summary import BEST, DIVERSITY
from uctgan_jax.images import read_image

FIGURES = {"validity": 1.0, "distance": 0.0, "skin_agreement": 1.0}  # of a perfect system


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
    "distance": "FD-vgg16, not FID",
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
        "sets": {"fd_vgg16": 12.3456, "fd_vgg16_hole": 34.5},
        "features": FEATURES,
        "mask": {"kind": "center", "hole_share": [0.25, 0.25]},
        "data": {"image_size": 256},
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
        "sets": {"fd_vgg16": 12.5, "fd_vgg16_hole": 34.5},
        "features": FEATURES,
        "compared": {
            "other": {
                "figures": other,
                "by_hole_share": bins(200),
                "sets": {"fd_vgg16": 99.5, "fd_vgg16_hole": 88.5},
            }
        },
        "mask": {"kind": "center", "hole_share": [0.25, 0.25]},
        "data": {"image_size": 64},
        **COMMON,
    }


@pytest.fixture
def over_training(report):
    """The report with a curve of three checkpoints."""
    main = report["figures"]["model"] if report["protocol"] == "posterior" else report["figures"]
    points = [
        {"step": step, "figures": main, "sets": {"fd_vgg16": 100.0 / step, "fd_vgg16_hole": step}}
        for step in (10, 20, 40)
    ]
    return {**report, "training": points}


def cells(report):
    found = tables.main_tables(report) + tables.tables_by_hole_share(report)
    return [cell for table in found for row in table.rows for cell in row]


class Page(HTMLParser):
    """Collects cells, pictures and all texts."""

    def __init__(self, text):
        super().__init__()
        self.tag, self.cells, self.sources, self.texts = None, [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tag = tag
        if tag == "img":
            self.sources.append(dict(attributes)["src"])

    def handle_data(self, data):
        self.texts.append(data.strip())
        if self.tag == "td" and data.strip():
            self.cells.append(data)


def test_the_page_holds_every_cell_and_needs_no_other_file(report):
    sheet = np.random.default_rng(0).integers(0, 256, (5, 9, 3), dtype=np.uint8)
    text = reports.to_html(report, {"first <pictures>": sheet, "most diverse": sheet})
    page = Page(text)
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
    found = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(found) == len(tables.main_tables(report) + tables.tables_by_hole_share(report))
    for table in found:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "\n\n\n" not in text and "&lt;" not in text
    assert "![first pictures](a.png)" in text and "![most diverse](b.png)" in text
    assert "curves" not in text


def test_published_figures_carry_their_certainty(report):
    if report["protocol"] == "paper":
        assert "from memory, not confirmed" in cells(report)
        assert cells(report).count("published, confirmed") == 4
        report["data"]["image_size"] = 64
        assert "published, confirmed" not in cells(report)
    else:
        assert "published, confirmed" not in cells(report)


def test_two_systems_stand_side_by_side(two_systems):
    against_truth, diversity, sets = tables.main_tables(two_systems)
    assert against_truth.columns == [
        "figure",
        "model: mean of K",
        "model: best of K",
        "model: reconstruction",
        "other: mean of K",
        "other: best of K",
        "mean colour fill",
    ]
    cells = ["l1 (less)", "0.2500", "-", "0.5000", "10.2500", "-", "0.7500"]
    assert against_truth.rows[0] == cells
    assert "model: identical" in against_truth.note
    assert "other: ALTERED in 4 completions, by 0.0625" in against_truth.note
    assert [row[0] for row in diversity.rows] == ["model", "other"]
    assert sets.columns == ["figure", "model", "other"]
    assert sets.rows == [
        ["fd_vgg16", "12.5000", "99.5000"],
        ["fd_vgg16_hole", "34.5000", "88.5000"],
    ]
    shares = tables.tables_by_hole_share(two_systems)[1]
    assert shares.rows[0][shares.columns.index("other: mean of K")] == "200.2500"


def test_the_text_is_aligned_and_leaves_out_the_shares(report, two_systems):
    for each in (report, two_systems):
        text = reports.to_text(each)
        parts = [part.splitlines()[1:] for part in text.split("\n\n")[1:]]
        assert all(len({len(line) for line in lines}) == 1 for lines in parts)
        assert "Holes of" not in text


def drawn(svg):
    """All texts of an SVG document."""
    return [
        "".join(one.itertext()).strip() for one in ElementTree.fromstring(svg).findall(".//{*}text")
    ]


def test_several_checkpoints_have_a_table_and_curves(over_training):
    table = tables.main_tables(over_training)[-1]
    assert table.title == "Over training"
    assert [row[0] for row in table.rows] == ["10", "20", "40"]
    if over_training["protocol"] == "paper":
        place = table.columns.index("fd_vgg16: first completions")
        assert [row[place] for row in table.rows] == ["10.0000", "5.0000", "2.5000"]
    svg = reports.to_svg(over_training)
    panels = [head.rpartition(": ")[0] for head in table.columns[1:]]
    assert set(panels) <= set(drawn(svg))
    page = Page(reports.to_html(over_training, {}, svg))
    assert page.cells == cells(over_training) and "training step" in page.texts
    assert "](c.svg)" in reports.to_markdown(over_training, {}, "c.svg")


def test_a_figure_without_values_has_no_panel(over_training):
    """Skin that no portrait shows; the diversity of one completion."""
    panel = "skin_agreement"
    if over_training["protocol"] == "paper":
        panel = "diversity, LPIPS I_out(m)"
    assert panel in drawn(reports.to_svg(over_training))
    figures = [over_training["figures"], *(point["figures"] for point in over_training["training"])]
    for each in figures:
        if over_training["protocol"] == "paper":
            each["diversity"] = dict.fromkeys(DIVERSITY)
        else:
            each["skin_agreement"] = None
            if "oracle" in each:
                each["oracle"]["skin_agreement"] = None
    assert panel not in drawn(reports.to_svg(over_training))


def test_the_report_is_written_whole_or_not_at_all(tmp_path, report):
    path = tmp_path / "new" / "report.json"
    full = {**report, **environment()}
    sheet = np.zeros((5, 9, 3), np.uint8)
    reports.write_report(path, full, {"first pictures": sheet, "most diverse": sheet})
    assert json.loads(path.read_text()) == full
    assert {p.name for p in path.parent.iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
        "contact_sheet.png",
        "contact_sheet_most_diverse.png",
    }
    with pytest.raises(ValueError, match=r"report\.figures\.x\[1\] is nan"):
        reports.write_report(path, {**full, "figures": {"x": [0.0, float("nan")]}}, {})
    assert json.loads(path.read_text()) == full


def test_a_second_report_in_a_folder_has_its_own_pictures(tmp_path, over_training):
    for name, grey in (("report", 50), ("second", 90)):
        sheet = np.full((5, 9, 3), grey, np.uint8)
        reports.write_report(tmp_path / f"{name}.json", over_training, {"first pictures": sheet})
    assert (read_image(tmp_path / "contact_sheet.png") == 50).all()
    assert (read_image(tmp_path / "second_contact_sheet.png") == 90).all()
    assert (tmp_path / "curves.svg").exists() and (tmp_path / "second_curves.svg").exists()
    text = (tmp_path / "second.md").read_text()
    assert "(second_contact_sheet.png)" in text and "(second_curves.svg)" in text
