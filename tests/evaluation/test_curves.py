from xml.etree import ElementTree

import pytest

from uctgan_jax.evaluation import curves
from uctgan_jax.evaluation.curves import curves_svg


def draw(panels):
    return ElementTree.fromstring(curves_svg(panels, x_label="step"))


def circles(svg):
    return [
        (float(c.get("cx")), float(c.get("cy"))) for c in svg.iter() if c.tag.endswith("circle")
    ]


def test_points_stand_where_they_should():
    (first, low, high, last) = circles(
        draw({"a": {"l": [(0, 2.0), (10, 1.0), (20, 4.0), (40, 3.0)]}})
    )
    assert first[0] < low[0] < high[0] < last[0]
    assert low[0] - first[0] == pytest.approx((last[0] - first[0]) / 4, abs=0.1)
    assert high[1] < last[1] < first[1] < low[1]  # up is less
    assert first[1] - last[1] == pytest.approx((low[1] - high[1]) / 3, abs=0.2)


def test_panels_lie_side_by_side_and_below():
    svg = draw({name: {"l": [(0, 1.0)]} for name in "abcd"})
    places = [g.get("transform") for g in svg.findall("{*}g")]
    assert len(set(places)) == 4 and len({p.split()[1] for p in places}) == 2


def test_gaps_flat_lines_and_names_with_signs():
    svg = draw({"<a> & b": {"<l>": [(1, 0.0), (2, None), (3, 0.0)], "none": [(1, None)]}})
    assert len(circles(svg)) == 2
    assert any(text.text == "<a> & b" for text in svg.iter())


@pytest.mark.parametrize("lines", [{}, {"l": [(1, None)]}, {str(i): [(0, 1.0)] for i in range(5)}])
def test_impossible_panels_are_refused(lines):
    with pytest.raises(ValueError, match="must be 1 to 4 lines"):
        curves_svg({"a": lines}, x_label="step")


def test_the_scale_has_round_values():
    svg = draw({"a": {"l": [(600, 0.0), (800, 1.0)]}})
    texts = [text.text for text in svg.iter() if text.tag.endswith("text")]
    assert texts == ["a", "0", "0.5", "1", "600", "800", "step", "l"]


@pytest.mark.parametrize("low, high", [(-0.06, 1.06), (65.7, 119.3), (0.9, 1.1), (-3e-7, 2e-7)])
def test_the_scale_has_some_values_within_its_range(low, high):
    values = curves._round_values(low, high)
    assert 2 <= len(values) <= 5
    assert low <= values[0] and values[-1] <= high
