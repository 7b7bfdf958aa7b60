"""Reports of an evaluation, of any protocol: JSON, Markdown, one HTML page, and text."""

import base64
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from uctgan_jax.evaluation.curves import curves_svg
from uctgan_jax.evaluation.tables import curve_panels, main_tables, tables_by_hole_share
from uctgan_jax.files import write_text
from uctgan_jax.images import write_image

# Markdown is for people to read and to edit: it takes no escapes.
_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("uctgan_jax.evaluation", ""),
    autoescape=lambda name: name is not None and "html" in name,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


def write_report(output: Path, report: dict, sheets: Mapping[str, np.ndarray]) -> None:
    """Writes a report with its pictures, each file whole or not at all.

    Args:
        output: the JSON file. `.md` and `.html` go beside it, and so do `contact_sheet*.png` and
            `curves.svg`. Their names begin with that of the report, unless it is `report`.
        report: what JSON can hold.
        sheets: title -> contact sheet, uint8 [H, W, 3].

    Raises:
        ValueError: a number in the report is infinite or not a number; the message says where.
    """
    _refuse_non_finite(report, "report")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, json.dumps(report, indent=2, allow_nan=False) + "\n")
    # Other reports in the folder have pictures of their own.
    prefix = "" if output.stem == "report" else f"{output.stem}_"
    names: dict[str, str] = {}
    for title, sheet in sheets.items():
        # The first one's name is the same for every model.
        stem = file_part(f"contact_sheet {title}" if names else "contact_sheet")
        names[title] = f"{prefix}{stem}.png"
        write_image(output.with_name(names[title]), sheet)
    curves = to_svg(report)
    if curves is not None:
        write_text(output.with_name(f"{prefix}curves.svg"), curves)
    curves_name = None if curves is None else f"{prefix}curves.svg"
    write_text(output.with_suffix(".md"), to_markdown(report, names, curves_name))
    write_text(output.with_suffix(".html"), to_html(report, sheets, curves))


def file_part(title: str) -> str:
    """A title as a part of a file's name."""
    return re.sub(r"\W+", "_", title)


def to_text(report: dict) -> str:
    """The main tables, aligned, for a terminal."""
    lines = [_summary(report)]
    for table in main_tables(report):
        lines += ["", table.title]
        cells = [table.columns, *table.rows]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for first, *others in cells:
            aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *aligned]))
    return "\n".join(lines)


def to_markdown(report: dict, sheets: Mapping[str, str], curves: str | None = None) -> str:
    """The report as Markdown.

    Args:
        report: of any protocol.
        sheets: title -> name of the file beside it that holds this contact sheet.
        curves: name of the file beside it that holds the curves, if there are any.
    """
    return _render("report.md.jinja", report, sheets=sheets, curves=curves)


def to_html(report: dict, sheets: Mapping[str, np.ndarray], curves: str | None = None) -> str:
    """The report as one page that needs no other file.

    Args:
        report: of any protocol.
        sheets: title -> contact sheet, uint8 [H, W, 3].
        curves: an SVG document, if there are any.
    """
    encoded = {title: _base64_png(sheet) for title, sheet in sheets.items()}
    return _render("report.html.jinja", report, sheets=encoded, curves=curves)


def to_svg(report: dict) -> str | None:
    """The curves over training as an SVG document, if the report has several checkpoints."""
    return curves_svg(curve_panels(report)) if "training" in report else None


def _render(template: str, report: dict, **parts) -> str:
    tables = ("figures", "by_hole_share", "sets", "ideal", "compared", "training")
    provenance = {key: value for key, value in report.items() if key not in tables}
    return _TEMPLATES.get_template(template).render(
        title=f"Evaluation, protocol {report['protocol']}",
        summary=_summary(report),
        tables=main_tables(report),
        tables_by_hole_share=tables_by_hole_share(report),
        provenance=json.dumps(provenance, indent=2),
        **parts,
    )


def _summary(report: dict) -> str:
    pairs = f", {report['num_pairs']} pairs a picture" if "num_pairs" in report else ""
    return (
        f"{report['num_examples']} pictures, {report['num_samples']} completions of each{pairs}, "
        f"seed {report['seed']}; model at step {report['checkpoint']['step']}."
    )


def _base64_png(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _refuse_non_finite(value, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_non_finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _refuse_non_finite(item, f"{where}[{i}]")
    elif isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"{where} is {value}; a report holds finite numbers only.")
