"""Reports to look at: the figures of an evaluation as text, Markdown and one HTML page."""

import base64
import html
import io
import json
from collections.abc import Mapping

import numpy as np
from PIL import Image

from uctgan_jax.avatars.benchmark import FIGURES
from uctgan_jax.evaluation.curves import curves_svg
from uctgan_jax.evaluation.evaluate import BEST, DIVERSITY

# LPIPS diversity on CelebA-HQ, 256 px, centre hole of 128 px: (method, I_out, I_out(m), source).
PUBLISHED = (
    ("CVAE", 0.004, 0.014, "published, confirmed"),
    ("Instance Blind", 0.015, 0.049, "published, confirmed"),
    ("BicycleGAN", 0.027, 0.060, "published, confirmed"),
    ("PIC", 0.029, 0.088, "published, confirmed"),
    ("UCTGAN, the paper", 0.030, 0.092, "from memory, not confirmed"),
)

_LABELS = {
    "l1": "l1 (less)",
    "psnr": "PSNR dB (more)",
    "ssim": "SSIM (more)",
    "lpips": "LPIPS (less)",
    "hole_l1": "hole l1 (less)",
    "hole_psnr": "hole PSNR dB (more)",
}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; }
img { max-width: 100%; image-rendering: pixelated; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .85rem; }
"""

# A section is (title, what it says, columns, rows of cells).
Section = tuple[str, str, list[str], list[list[str]]]


def sections(report: dict) -> list[Section]:
    """The tables of a report of any protocol; those of several systems have columns for each."""
    if report["protocol"] == "posterior":
        return [_posterior(report), *_training(report)]
    systems = _systems(report)
    parts = [
        _against_truth("Against the truth", {n: part["figures"] for n, part in systems.items()}),
        _diversity(report),
    ]
    if "sets" in report:
        rows = [
            [name, *(_number(part["sets"][name]) for part in systems.values())]
            for name in report["sets"]
        ]
        note = (
            "The first completion of every picture against all originals. Features: "
            f"{report['features']['network']}; {report['features']['frechet_distance']}."
        )
        parts.append(("Figures over sets", note, ["figure", *systems], rows))
    return parts + _training(report)


def by_hole_share(report: dict) -> list[Section]:
    """The tables of a report for each share of the hole; none where all holes are alike."""
    shares = report.get("by_hole_share", {})
    if len(shares) < 2:
        return []
    return [
        _against_truth(
            f"Holes of {share} of the area ({figures['num_examples']} pictures)",
            {name: part["by_hole_share"][share] for name, part in _systems(report).items()},
        )
        for share, figures in shares.items()
    ]


def to_text(report: dict) -> str:
    """The main tables, aligned, for a terminal."""
    lines = [_summary(report)]
    for title, _, columns, rows in sections(report):
        lines += ["", title]
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        for row in [columns, *rows]:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells))
    return "\n".join(lines)


def to_markdown(report: dict, sheets: Mapping[str, str], curves: str | None = None) -> str:
    """The report as Markdown.

    Args:
        report: of any protocol.
        sheets: title -> name of the file beside it that holds this contact sheet.
        curves: name of the file beside it that holds the curves, if there are any.
    """
    lines = [f"# {_title(report)}", "", _summary(report)]
    for section in sections(report):
        lines += _markdown_table(section)
    if curves:
        lines += ["", "## Curves", "", f"![curves]({curves})"]
    for title, name in sheets.items():
        lines += ["", f"## {title.capitalize()}", "", f"![{title}]({name})"]
    for section in by_hole_share(report):
        lines += _markdown_table(section)
    lines += ["", "## How it was made", "", "```json", _provenance(report), "```"]
    return "\n".join(lines) + "\n"


def _markdown_table(section: Section) -> list[str]:
    title, note, columns, rows = section
    return [
        *("", f"## {title}", "", note, ""),
        "| " + " | ".join(columns) + " |",
        "|---" + "|---:" * (len(columns) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def to_html(report: dict, sheets: Mapping[str, np.ndarray]) -> str:
    """The report as one page that needs no other file; `sheets` is title -> uint8 [H, W, 3]."""
    title = html.escape(_title(report))
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f"<p>{html.escape(_summary(report))}</p>",
    ]
    for section in sections(report):
        parts += _html_table(section)
    if "training" in report:
        parts += ["<h2>Curves</h2>", to_svg(report)]
    for title, sheet in sheets.items():
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "PNG")
        data = base64.b64encode(buffer.getvalue()).decode()
        title = html.escape(title)
        parts.append(f"<h2>{title.capitalize()}</h2>")
        parts.append(f'<img alt="{title}" src="data:image/png;base64,{data}">')
    for section in by_hole_share(report):
        parts += _html_table(section)
    parts += ["<h2>How it was made</h2>", f"<pre>{html.escape(_provenance(report))}</pre>"]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _html_table(section: Section) -> list[str]:
    title, note, columns, rows = section
    return [
        *(f"<h2>{html.escape(title)}</h2>", f"<p>{html.escape(note)}</p>", "<table>"),
        "<tr>" + "".join(f"<th>{html.escape(c)}</th>" for c in columns) + "</tr>",
        *("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows),
        "</table>",
    ]


def _title(report):
    return f"Evaluation, protocol {report['protocol']}"


def _summary(report):
    pairs = f", {report['num_pairs']} pairs a picture" if "num_pairs" in report else ""
    return (
        f"{report['num_examples']} pictures, {report['num_samples']} completions of each{pairs}, "
        f"seed {report['seed']}; model at step {report['checkpoint']['step']}."
    )


def _provenance(report):
    tables = ("figures", "by_hole_share", "sets", "ideal", "compared", "training")
    return json.dumps({k: v for k, v in report.items() if k not in tables}, indent=2)


def _number(value):
    return "-" if value is None else f"{value:.4f}"


def _systems(report):
    """Name -> its part of the report, the model first."""
    return {"model": report, **report.get("compared", {})}


def _against_truth(title, systems) -> Section:
    """`systems` is name -> figures."""
    columns, rows = ["figure"], [[label] for label in _LABELS.values()]

    def add(column, values):
        columns.append(column)
        for row, name in zip(rows, _LABELS, strict=True):
            row.append(
                f"{values[name]:.2f}"
                if "psnr" in name and values[name] is not None
                else _number(values[name])
            )

    for system, figures in systems.items():
        prefix = f"{system}: " if len(systems) > 1 else ""
        for part, column in (("mean_of_k", "mean of K"), ("best_of_k", "best of K")):
            add(prefix + column, {name: figures["samples"][name][part] for name in BEST})
        if figures["reconstruction"] is not None:
            add(prefix + "reconstruction", figures["reconstruction"])
    add("mean colour fill", figures["mean_colour_fill"])
    note = (
        "The best of K is chosen per picture and figure with the truth at hand; the mean of K is "
        "what a user gets."
    )
    for system, figures in systems.items():
        changed = figures["known_pixels_changed"]
        note += f" Known pixels, {system}: " + (
            f"ALTERED in {changed} completions, by {figures['known_l1']:.4f} on average over all; "
            "put back before measuring."
            if changed
            else "identical in all completions."
        )
    return title, note, columns, rows


def _diversity(report) -> Section:
    variants = report["variants"]
    rows = [
        [name, *(_number(part["figures"]["diversity"][figure]) for figure in DIVERSITY), "here"]
        for name, part in _systems(report).items()
    ]
    rows += [[name, f"{a:.3f}", f"{b:.3f}", "-", source] for name, a, b, source in PUBLISHED]
    note = (
        f"{variants['lpips_out']}. {variants['lpips_hole']}. The published figures are for "
        "CelebA-HQ at 256 px with a centre hole: another data set is not comparable with them."
    )
    title = "Diversity, beside published figures for CelebA-HQ"
    return title, note, ["method", "I_out", "I_out(m)", "l1 in the hole", "source"], rows


def _posterior(report) -> Section:
    systems = {"perfect": report["ideal"], **report["figures"]}
    rows = [[name, *(_number(f[figure]) for figure in FIGURES)] for name, f in systems.items()]
    note = (
        "Completions of portraits with hidden faces against the exact posterior. The oracle draws "
        "from it: what it scores is the best there is at this N and K. Own codes: what the model "
        "makes of the oracle's draws from their own codes, as if its prior were perfect."
    )
    return "Against the exact posterior", note, ["system", *FIGURES], rows


def to_svg(report: dict) -> str:
    """The curves over training of a report that has `training`, as an SVG document."""
    return curves_svg(_panels(report), x_label="training step")


def _panels(report) -> dict[str, dict[str, list[tuple[int, float | None]]]]:
    """Title -> line -> (step, value) of each checkpoint, the oldest first."""
    panels = (
        _posterior_panels(report) if report["protocol"] == "posterior" else _truth_panels(report)
    )
    # A figure that no checkpoint has, such as the diversity of one completion, has no panel.
    return {
        title: lines
        for title, lines in panels.items()
        if any(value is not None for points in lines.values() for _, value in points)
    }


def _posterior_panels(report):
    points, oracle = report["training"], report["figures"]["oracle"]
    return {
        name: {
            "model": [(p["step"], p["figures"][name]) for p in points],
            "oracle": [(p["step"], oracle[name]) for p in points],
        }
        for name in FIGURES
    }


def _truth_panels(report):
    steps = [(point["step"], point["figures"]) for point in report["training"]]
    panels = {}
    for name in ("lpips", "hole_l1", "hole_psnr"):
        panels[_LABELS[name]] = {
            "mean of K": [(step, f["samples"][name]["mean_of_k"]) for step, f in steps],
            "best of K": [(step, f["samples"][name]["best_of_k"]) for step, f in steps],
            "reconstruction": [(step, f["reconstruction"][name]) for step, f in steps],
        }
    panels["diversity, LPIPS I_out(m)"] = {
        "pairs": [(step, f["diversity"]["lpips_hole"]) for step, f in steps]
    }
    if "sets" in report:
        title = report["features"]["short_name"]
        panels[title] = {
            "first completions": [
                (point["step"], point["sets"]["frechet_distance"]) for point in report["training"]
            ]
        }
    return panels


def _training(report) -> list[Section]:
    """The first line of every panel as a table, if there are several checkpoints."""
    if "training" not in report:
        return []
    panels = {title: next(iter(lines.items())) for title, lines in _panels(report).items()}
    rows = [
        [str(point["step"]), *(_number(values[place][1]) for _, values in panels.values())]
        for place, point in enumerate(report["training"])
    ]
    heads = [f"{title}: {name}" for title, (name, _) in panels.items()]
    note = "The same pictures, holes and seeds at every checkpoint."
    return [("Over training", note, ["step", *heads], rows)]
