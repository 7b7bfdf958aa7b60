"""The tables of a report, of any protocol, as text: what Markdown, HTML and the terminal show."""

import dataclasses

from uctgan_jax.evaluation.curves import Lines
from uctgan_jax.evaluation.summary import BEST, DIVERSITY

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


@dataclasses.dataclass(frozen=True)
class Table:
    """A table with its title and what is to be said about it; every row has a cell a column."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


def main_tables(report: dict) -> list[Table]:
    """The tables of a report; those of several systems have columns for each."""
    if report["protocol"] == "posterior":
        return [_posterior(report), *_training(report)]
    systems = _systems(report)
    figures = {name: part["figures"] for name, part in systems.items()}
    tables = [_against_truth("Against the truth", figures), _diversity(report)]
    if "sets" in report:
        tables.append(_sets(report))
    return tables + _training(report)


def tables_by_hole_share(report: dict) -> list[Table]:
    """A table for each share of the hole; none where all holes are alike."""
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


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _systems(report) -> dict[str, dict]:
    """Name -> its part of the report, the model first."""
    return {"model": report, **report.get("compared", {})}


def _against_truth(title: str, systems: dict[str, dict]) -> Table:
    """`systems` is name -> figures."""
    columns: dict[str, dict] = {}
    for system, figures in systems.items():
        prefix = f"{system}: " if len(systems) > 1 else ""
        for part, column in (("mean_of_k", "mean of K"), ("best_of_k", "best of K")):
            values = {name: figures["samples"][name][part] for name in BEST}
            columns[prefix + column] = values
        if figures["reconstruction"] is not None:
            columns[prefix + "reconstruction"] = figures["reconstruction"]
    # The same pictures and holes for every system, so the last one's will do.
    columns["mean colour fill"] = figures["mean_colour_fill"]
    rows = [
        [label, *(_figure(name, values[name]) for values in columns.values())]
        for name, label in _LABELS.items()
    ]
    note = (
        "The best of K is chosen per picture and figure with the truth at hand; the mean of K is "
        "what a user gets."
    )
    for system, figures in systems.items():
        note += f" Known pixels, {system}: {_known_pixels(figures)}"
    return Table(title, note, ["figure", *columns], rows)


def _figure(name: str, value: float | None) -> str:
    return f"{value:.2f}" if "psnr" in name and value is not None else _number(value)


def _known_pixels(figures: dict) -> str:
    changed = figures["known_pixels_changed"]
    if not changed:
        return "identical in all completions."
    return (
        f"ALTERED in {changed} completions, by {figures['known_l1']:.4f} on average over all; "
        "put back before measuring."
    )


def _diversity(report) -> Table:
    variants = report["variants"]
    rows = [
        [name, *(_number(part["figures"]["diversity"][figure]) for figure in DIVERSITY), "here"]
        for name, part in _systems(report).items()
    ]
    title = "Diversity"
    note = f"{variants['lpips_out']}. {variants['lpips_hole']}."
    if _is_published_setting(report):
        rows += [[name, f"{a:.3f}", f"{b:.3f}", "-", source] for name, a, b, source in PUBLISHED]
        title = "Diversity, beside published figures for CelebA-HQ"
        note += " Another data set than CelebA-HQ is not comparable with the published figures."
    return Table(title, note, ["method", "I_out", "I_out(m)", "l1 in the hole", "source"], rows)


def _is_published_setting(report) -> bool:
    """Whether pictures and holes have the sizes of the published figures."""
    mask = report["mask"]
    is_centre = mask["kind"] == "center" and tuple(mask["hole_share"]) == (0.25, 0.25)
    return is_centre and report["data"]["image_size"] == 256


def _sets(report) -> Table:
    systems = _systems(report)
    rows = [
        [name, *(_number(part["sets"][name]) for part in systems.values())]
        for name in report["sets"]
    ]
    features = report["features"]
    note = (
        "The first completion of every picture against all originals. Features: "
        f"{features['network']}; {features['distance']}. _hole: of the hole's crops."
    )
    return Table("Figures over sets", note, ["figure", *systems], rows)


def _posterior(report) -> Table:
    systems = {"perfect": report["ideal"], **report["figures"]}
    names = list(report["ideal"])
    rows = [[system, *(_number(f[name]) for name in names)] for system, f in systems.items()]
    note = (
        "Completions of portraits with hidden faces against the exact posterior. The oracle draws "
        "from it: its figures are the best possible at this N and K. Own codes: the oracle's draws "
        "from their own codes, as if the model's prior were perfect."
    )
    return Table("Against the exact posterior", note, ["system", *names], rows)


def _training(report) -> list[Table]:
    """The curves of the completions as a table, if there are several checkpoints."""
    if "training" not in report:
        return []
    curves = {
        f"{title}: {name}": points
        for title, lines in curve_panels(report).items()
        for name, points in lines.items()
        if name not in ("reconstruction", "oracle")
    }
    rows = [
        [str(point["step"]), *(_number(points[place][1]) for points in curves.values())]
        for place, point in enumerate(report["training"])
    ]
    note = "The same pictures, holes and seeds at every checkpoint."
    return [Table("Over training", note, ["step", *curves], rows)]


def curve_panels(report: dict) -> dict[str, Lines]:
    """The curves of a report that has `training`: title -> lines, the oldest checkpoint first.

    A figure that no checkpoint has, such as the diversity of one completion, has no panel.
    """
    posterior = report["protocol"] == "posterior"
    panels = _posterior_panels(report) if posterior else _truth_panels(report)
    return {
        title: lines
        for title, lines in panels.items()
        if any(value is not None for points in lines.values() for _, value in points)
    }


def _posterior_panels(report) -> dict[str, Lines]:
    points, oracle = report["training"], report["figures"]["oracle"]
    return {
        name: {
            "model": [(p["step"], p["figures"][name]) for p in points],
            "oracle": [(p["step"], oracle[name]) for p in points],
        }
        for name in report["ideal"]
    }


def _truth_panels(report) -> dict[str, Lines]:
    training = report["training"]
    steps = [(point["step"], point["figures"]) for point in training]
    panels: dict[str, Lines] = {}
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
        whole, hole = list(report["sets"])[:2]  # the Frechet distances come first
        for name in (whole, hole):
            points = [(point["step"], point["sets"][name]) for point in training]
            panels[name] = {"first completions": points}
    return panels
