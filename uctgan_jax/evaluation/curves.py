"""Curves as SVG: small panels side by side, each with a few lines."""

import html
import math
from collections.abc import Mapping, Sequence

# Line name -> its points (x, y); a y of None is a gap.
Lines = Mapping[str, Sequence[tuple[float, float | None]]]

_WIDTH, _HEIGHT = 340, 240  # of a panel, in user units
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 48, 30  # margins of its plot
_COLUMNS = 3
_COLOURS = ("#0b62a4", "#d1622b", "#3a8f3a", "#7a4fa3")


def curves_svg(panels: Mapping[str, Lines], *, x_label: str) -> str:
    """One SVG picture of all panels, three a row.

    Args:
        panels: title -> lines; at most four lines a panel.
        x_label: what x is.

    Returns:
        A whole SVG document, which may also stand inside an HTML page.

    Raises:
        ValueError: a panel without a point, or with more lines than colours.
    """
    columns = min(_COLUMNS, len(panels))
    height = _HEIGHT * -(-len(panels) // _COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {columns * _WIDTH} {height}" '
        f'width="{columns * _WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
    ]
    for place, (title, lines) in enumerate(panels.items()):
        x, y = place % _COLUMNS * _WIDTH, place // _COLUMNS * _HEIGHT
        parts += [f'<g transform="translate({x} {y})">', *_panel(title, lines, x_label), "</g>"]
    return "\n".join([*parts, "</svg>"])


def _panel(title, lines, x_label):
    points = [(x, y) for line in lines.values() for x, y in line if y is not None]
    if not points or len(lines) > len(_COLOURS):
        raise ValueError(
            f"The panel {title!r} has {len(lines)} lines with {len(points)} points: must be 1 to "
            f"{len(_COLOURS)} lines with a point at least."
        )
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    low, high = min(ys), max(ys)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - margin, high + margin
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def across(x):
        return round(_LEFT + plot_width * ((x - xs[0]) / (xs[-1] - xs[0]) if xs[1:] else 0.5), 1)

    def down(y):
        return round(_TOP + plot_height * (high - y) / (high - low), 1)

    yield f'<text x="{_LEFT}" y="16" font-size="13" font-weight="bold">{html.escape(title)}</text>'
    for value in _round_values(low, high):
        y = down(value)
        yield f'<path d="M{_LEFT} {y}H{_LEFT + plot_width}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.4g}</text>'
    shown = xs if len(xs) <= 5 else [xs[0], xs[len(xs) // 2], xs[-1]]
    for x in shown:
        yield f'<text x="{across(x)}" y="{_HEIGHT - 15}" text-anchor="middle">{x:g}</text>'
    middle = _LEFT + plot_width / 2
    yield f'<text x="{middle}" y="{_HEIGHT - 3}" text-anchor="middle">{html.escape(x_label)}</text>'
    legend = _LEFT
    for (name, line), colour in zip(lines.items(), _COLOURS, strict=False):
        yield f'<text x="{legend}" y="34" fill="{colour}">{html.escape(name)}</text>'
        legend += 7 * len(name) + 14
        drawn = [(across(x), down(y)) for x, y in line if y is not None]
        path = "L".join(f"{x} {y}" for x, y in drawn)
        if path:
            yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for x, y in drawn:
            yield f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'


def _round_values(low, high):
    """Two to five multiples of 1, 2, 2.5 or 5 times a power of ten, within a range."""
    least = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(least))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= least)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
