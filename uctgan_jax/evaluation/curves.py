"""Figures over training as curves: small panels side by side, drawn by Matplotlib."""

import io
from collections.abc import Mapping, Sequence

# Line name -> its points (step, value); a value of None is a gap.
Lines = Mapping[str, Sequence[tuple[int, float | None]]]

_COLUMNS = 3
_PANEL = (3.4, 2.6)  # inches


def curves_svg(panels: Mapping[str, Lines]) -> str:
    """Draws all panels, three a row, over the training step.

    Args:
        panels: title -> lines, at least one.

    Returns:
        An SVG document, which may also stand inside an HTML page.
    """
    # Takes half a second to import: only for those who draw.
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // _COLUMNS)
    figure = Figure(figsize=(columns * _PANEL[0], rows * _PANEL[1]), layout="constrained")
    for place, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        for name, points in lines.items():
            steps, values = zip(*points, strict=True)
            values = [float("nan") if value is None else value for value in values]
            axes.plot(steps, values, marker="o", markersize=4, label=name)
        axes.set_title(title, fontsize="medium", parse_math=False)
        axes.set_xlabel("training step")
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    file = io.StringIO()
    # Text stays text, and the same figures give the same file.
    style = {"svg.fonttype": "none", "svg.hashsalt": "uctgan", "font.family": "sans-serif"}
    with matplotlib.rc_context(style):
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    return svg[svg.index("<svg") :]
