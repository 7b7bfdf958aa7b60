from xml.etree import ElementTree

import pytest

from uctgan_jax.evaluation.curves import curves_svg

PANELS = {
    "<a> & $b": {"<first>": [(100, 0.0), (200, None), (300, 1.0)], "none": [(100, None)]},
    "flat": {"line": [(100, 2.0), (300, 2.0)]},
    "c": {"line": [(0, 1.0)]},
    "d": {"line": [(0, 1.0)]},
}


def test_titles_and_names_are_drawn_as_they_are():
    root = ElementTree.fromstring(curves_svg(PANELS))
    texts = ["".join(text.itertext()).strip() for text in root.findall(".//{*}text")]
    assert {"<a> & $b", "flat", "<first>", "none", "c", "d"} <= set(texts)
    assert texts.count("training step") == 4


def test_panels_lie_side_by_side_and_below():
    def size(count):
        svg = ElementTree.fromstring(curves_svg(dict(list(PANELS.items())[:count])))
        return [float(number) for number in svg.get("viewBox").split()[2:]]

    (width, height), (three, _), (_, two_rows) = size(1), size(3), size(4)
    assert three == pytest.approx(3 * width) and two_rows == pytest.approx(2 * height)


def test_the_same_figures_give_the_same_file():
    assert curves_svg(PANELS) == curves_svg(PANELS)
