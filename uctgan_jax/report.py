"""Reports to look at: the figures of an evaluation as Markdown and as one self-contained page."""

import base64
import html
import io
import json

import numpy as np
from PIL import Image

from uctgan_jax.evaluation import BEST, DIVERSITY
from uctgan_jax.posterior_benchmark import FIGURES

# LPIPS diversity on CelebA-HQ, 256 px, centre hole of 128 px: (method, I_out, I_out(m), source).
PUBLISHED = (
    ("CVAE", 0.004, 0.014, "published, confirmed"),
    ("Instance Blind", 0.015, 0.049, "published, confirmed"),
    ("BicycleGAN", 0.027, 0.060, "published, confirmed"),
    ("PIC", 0.029, 0.088, "published, confirmed"),
    ("UCTGAN, the paper", 0.030, 0.092, "from memory, not confirmed"),
)

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
       color: #222; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; image-rendering: pixelated; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: .85rem; }
"""

# A section is (title, what it says, columns, rows of cells).
Section = tuple[str, str, list[str], list[list[str]]]


def sections(report: dict) -> list[Section]:
    """The tables of a report of any protocol."""
    if report["protocol"] == "posterior":
        return [_posterior(report)]
    parts = [_against_truth("Against the truth", report["figures"]), _diversity(report)]
    if "sets" in report:
        rows = [[name, f"{value:.4f}"] for name, value in report["sets"].items()]
        note = (
            "The first completion of every picture against all originals. Features: "
            f"{report['features']['network']}; {report['features']['frechet_distance']}."
        )
        parts.append(("Figures over sets", note, ["figure", "value"], rows))
    if len(report["by_hole_share"]) > 1:
        for share, figures in report["by_hole_share"].items():
            title = f"Holes of {share} of the area ({figures['num_examples']} pictures)"
            parts.append(_against_truth(title, figures))
    return parts


def to_markdown(report: dict, sheet_name: str) -> str:
    """The report as Markdown; the contact sheet is linked by its name beside it."""
    lines = [f"# {_title(report)}", "", _summary(report), "", f"![contact sheet]({sheet_name})"]
    for title, note, columns, rows in sections(report):
        lines += ["", f"## {title}", "", note, ""]
        lines.append("| " + " | ".join(columns) + " |")
        lines.append("|---" + "|---:" * (len(columns) - 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "## How it was made", "", "```json", _provenance(report), "```"]
    return "\n".join(lines) + "\n"


def to_html(report: dict, sheet: np.ndarray) -> str:
    """The report as one page that needs no other file; `sheet` is uint8 [H, W, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    title = html.escape(_title(report))
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f"<p>{html.escape(_summary(report))}</p>",
        f'<img alt="contact sheet" src="data:image/png;base64,{picture}">',
    ]
    for title, note, columns, rows in sections(report):
        parts += [f"<h2>{html.escape(title)}</h2>", f"<p>{html.escape(note)}</p>", "<table>"]
        parts.append("<tr>" + "".join(f"<th>{html.escape(c)}</th>" for c in columns) + "</tr>")
        for row in rows:
            parts.append("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>")
        parts.append("</table>")
    parts += ["<h2>How it was made</h2>", f"<pre>{html.escape(_provenance(report))}</pre>"]
    return "\n".join([*parts, "</body></html>"]) + "\n"


def _title(report):
    return f"Evaluation, protocol {report['protocol']}"


def _summary(report):
    return (
        f"{report['num_examples']} pictures, {report['num_samples']} completions of each, seed "
        f"{report['seed']}; model at step {report['checkpoint']['step']}."
    )


def _provenance(report):
    tables = ("figures", "by_hole_share", "sets", "ideal")
    return json.dumps({k: v for k, v in report.items() if k not in tables}, indent=2)


def _number(value):
    return "-" if value is None else f"{value:.4f}"


def _against_truth(title, figures) -> Section:
    rows = []
    for name in BEST:
        values = [*figures["samples"][name].values()]
        values += [figures["reconstruction"][name], figures["mean_colour_fill"][name]]
        rows.append([name, *map(_number, values)])
    known = "identical" if figures["known_pixels_identical"] else "ALTERED"
    note = (
        "The best of K is chosen per picture and figure with the truth at hand; the mean of K is "
        f"what a user gets. Known pixels: {known}."
    )
    columns = ["figure", "mean of K", "best of K", "reconstruction", "mean colour fill"]
    return title, note, columns, rows


def _diversity(report) -> Section:
    figures, variants = report["figures"]["diversity"], report["variants"]
    rows = [["this model", *(_number(figures[name]) for name in DIVERSITY), "measured here"]]
    rows += [[name, f"{a:.3f}", f"{b:.3f}", "-", source] for name, a, b, source in PUBLISHED]
    note = (
        f"{variants['lpips_out']}. {variants['lpips_hole']}. The published figures are for "
        "CelebA-HQ at 256 px with a centre hole: another data set is not comparable with them."
    )
    return "Diversity", note, ["method", "I_out", "I_out(m)", "l1 in the hole", "source"], rows


def _posterior(report) -> Section:
    systems = {"perfect": report["ideal"], **report["figures"]}
    rows = [[name, *(_number(f[figure]) for figure in FIGURES)] for name, f in systems.items()]
    note = (
        "Completions of portraits with hidden faces against the exact posterior. The oracle draws "
        "from it: what it scores is the best there is at this N and K."
    )
    return "Against the exact posterior", note, ["system", *FIGURES], rows
