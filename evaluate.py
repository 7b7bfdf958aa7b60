"""Measures a trained model; writes a report as JSON, Markdown and HTML, and contact sheets.

    python evaluate.py --workdir=DIR --output=report.json
    python evaluate.py --workdir=DIR --output=posterior.json --protocol=posterior

Protocols (docs/evaluation.md defines every figure):
  completion  completions of a split's pictures against the truth, and against each other
  paper       the same, and figures over sets: FID, IS, MIS, P-IDS, U-IDS, precision, recall ...
              with --inception_weights=pt_inception-2015-12-05-6726825d.pth; without that file,
              proxies of them from VGG16
  posterior   completions of portraits with hidden faces against the exact posterior; next to the
              model stand what it makes of the oracle's draws, the oracle and two baselines

Several checkpoints of a run, as curves over training: --steps=all or --steps=1000,2000.
Another program, measured beside the model by the same code:

    python evaluate.py --workdir=DIR --export_inputs=INPUTS     # its inputs; then, after running it
    python evaluate.py --workdir=DIR --output=report.json --compare=COMPLETIONS

Without --config the configuration that the model was trained with is used. Started again with the
same --output, an evaluation that was broken off goes on where it stopped.
"""

import functools
import hashlib
import re
from pathlib import Path

import ml_collections
import numpy as np
from absl import app, flags
from ml_collections import config_flags

from uctgan_jax import command_line, compilation_cache
from uctgan_jax.avatars import benchmark as posterior_benchmark
from uctgan_jax.avatars.posterior import FACE_WINDOW
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.evaluation.cache import Records
from uctgan_jax.evaluation.compare import CompletionsFolder, export_inputs
from uctgan_jax.evaluation.evaluate import (
    Complete,
    Extractor,
    choose_pictures,
    complete_pictures,
    environment,
    evaluate,
    model,
    write_report,
)
from uctgan_jax.evaluation.metrics.diversity import enlarge
from uctgan_jax.evaluation.metrics.inception import inception, load_inception
from uctgan_jax.evaluation.metrics.lpips import vgg16_features
from uctgan_jax.evaluation.metrics.placement import on_default_device
from uctgan_jax.evaluation.report import to_html, to_markdown, to_svg, to_text
from uctgan_jax.files import make_writable
from uctgan_jax.images import completion_sheet, write_image
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.saved_models import saved_steps

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration of data and evaluation.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training run to evaluate.")
_OUTPUT = flags.DEFINE_string("output", "report.json", "The report to write.")
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation", "train"], "Split to measure on.")
_PROTOCOL = flags.DEFINE_enum(
    "protocol", "completion", ["completion", "paper", "posterior"], "What to measure."
)
_INCEPTION = flags.DEFINE_string(
    "inception_weights", None, "FID's weights file of 2015, for --protocol=paper."
)
_STEPS = flags.DEFINE_string(
    "steps", None, "Checkpoints to measure: all, or steps as in 200,400. By default the newest."
)
_GUIDANCE = flags.DEFINE_float(
    "guidance", None, "Instead of the model's own, 1 or more: see Inpainter.load."
)
_EXPORT = flags.DEFINE_string(
    "export_inputs", None, "Write inputs, masks and truths to this folder, and measure nothing."
)
_COMPARE = flags.DEFINE_multi_string(
    "compare", [], "Folder of another program's completions of these inputs; may be repeated."
)

_SHOWN_SAMPLES = 8  # completions a row of a contact sheet


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    compilation_cache.enable()
    try:
        run()
    except (ValueError, OSError) as error:
        raise SystemExit(f"evaluate.py: {error}") from error


def run() -> None:
    output = _output()
    posterior = _PROTOCOL.value == "posterior"
    _check_flags()
    *earlier, step = _steps()
    inpainter = _load(step)
    config = _CONFIG.value or inpainter.config
    if config.image_size != inpainter.image_size:
        raise ValueError(
            f"image_size ({config.image_size}) in --config must be that of the model in "
            f"{_WORKDIR.value} ({inpainter.image_size})."
        )
    _check_config(config)
    if _EXPORT.value is not None:
        batches, num_examples = _pictures(config)
        folder = Path(_EXPORT.value).expanduser()
        export_inputs(batches(), folder, num_examples=num_examples)
        print(f"{num_examples} inputs with masks and truths are in {folder}")
        return
    figures, sheets = (_posterior if posterior else _completion)(inpainter, earlier, config)
    report = {
        "protocol": _PROTOCOL.value,
        **figures,
        "checkpoint": {
            "workdir": _WORKDIR.value,
            "step": int(inpainter.step),
            "digest": inpainter.digest,
            "guidance": inpainter.networks.guidance,
        },
        **environment(),
    }
    write_report(output, report)
    # Other reports in the folder have pictures of their own.
    prefix = "" if output.stem == "report" else f"{output.stem}_"
    names = {}
    for title, sheet in sheets.items():
        # The first one's name is the same for every model.
        name = _file_part(f"contact_sheet {title}" if names else "contact_sheet")
        names[title] = f"{prefix}{name}.png"
        write_image(output.with_name(names[title]), sheet)
    curves = None
    if "training" in report:
        curves = f"{prefix}curves.svg"
        output.with_name(curves).write_text(to_svg(report))
    output.with_suffix(".md").write_text(to_markdown(report, names, curves))
    output.with_suffix(".html").write_text(to_html(report, sheets))
    print(to_text(report))
    print(f"\nWrote {output}, .md and .html, and {output.with_name(prefix + 'contact_sheet*.png')}")


def _check_flags() -> None:
    """What cannot be written, or would not be looked at, should not cost an evaluation first."""
    if _PROTOCOL.value == "posterior" and (_COMPARE.value or _EXPORT.value):
        raise ValueError(
            "--compare and --export_inputs are for the protocols completion and paper."
        )
    if _INCEPTION.value is not None and _PROTOCOL.value != "paper":
        raise ValueError(
            f"--inception_weights is for --protocol=paper, not {_PROTOCOL.value}: nothing else"
            " looks at them."
        )
    if _EXPORT.value is not None:
        if _COMPARE.value:
            raise ValueError(
                "--export_inputs measures nothing: give --compare once the other program has run."
            )
        return
    output = _output()
    make_writable(output.parent)
    if output.is_dir():
        raise ValueError(f"--output={output} must be a file, but is a folder.")
    if output.suffix in (".md", ".html"):
        raise ValueError(f"--output={output} must not end in {output.suffix}: that is written too.")


def _check_config(config: ml_collections.ConfigDict) -> None:
    """Raises a ValueError that names the first number of `eval` which makes no sense."""
    for name in ("num_examples", "num_samples", "num_pairs", "batch_size"):
        if config.eval.get(name, 1) < 1:
            raise ValueError(f"eval.{name} ({config.eval[name]}) must be 1 or more.")
    if not 0 <= config.eval.seed < 2**32:
        raise ValueError(f"eval.seed ({config.eval.seed}) must be from 0 to {2**32 - 1}.")


def _file_part(title: str) -> str:
    return re.sub(r"\W+", "_", title)


def _load(step: int | None) -> Inpainter:
    return Inpainter.load(_WORKDIR.value, step, _GUIDANCE.value)


def _steps() -> list[int | None]:
    """The checkpoints to measure, the oldest first; None stands for the newest."""
    if _STEPS.value is None:
        return [None]
    saved = saved_steps(_WORKDIR.value)
    if _STEPS.value == "all":
        wanted = saved
    elif all(step.isdecimal() for step in _STEPS.value.split(",")):
        wanted = sorted({int(step) for step in _STEPS.value.split(",")})
    else:
        raise ValueError(f"--steps={_STEPS.value} must be all, or steps as in 200,400.")
    if not wanted or not set(wanted) <= set(saved):
        raise FileNotFoundError(
            f"--steps={_STEPS.value}: {_WORKDIR.value} has checkpoints of the steps {saved}."
        )
    return wanted


def _pictures(config: ml_collections.ConfigDict):
    """What gives the batches, anew with every call, and how many pictures they hold."""
    source = open_source(
        config.data.source,
        split=_SPLIT.value,
        image_size=config.image_size,
        data_dir=config.data.dir,
        avatars_examples=tuple(config.data.avatars_examples),
        max_corrupt=config.data.max_corrupt,
    )
    num_examples = min(config.eval.num_examples, len(source))
    batches = functools.partial(
        eval_batches,
        source,
        image_size=config.image_size,
        batch_size=config.eval.batch_size,
        masks=MaskOptions(**config.mask),
        seed=config.eval.seed,
        num_examples=num_examples,
    )
    return batches, num_examples


def _output() -> Path:
    return Path(_OUTPUT.value).expanduser()


def _completion(inpainter: Inpainter, earlier: list[int], config: ml_collections.ConfigDict):
    extractor, features = _extractor() if _PROTOCOL.value == "paper" else (None, None)
    batches, num_examples = _pictures(config)
    mask, seed, num_samples = config.mask, config.eval.seed, config.eval.num_samples
    num_pairs = min(config.eval.get("num_pairs", 50), num_samples * (num_samples - 1) // 2)
    same_hole = mask.kind == "window" or (mask.kind == "center" and len(set(mask.hole_share)) == 1)
    folders = _compared(num_examples, num_samples, config.image_size)

    def measure(name: str, complete: Complete, digest: str, guidance=None, reconstruct=None):
        """A system's part of the report."""
        records = Records(
            _output().with_suffix(".records"),
            {
                "completions_of": digest,
                "guidance": guidance,
                "num_samples": num_samples,
                "num_pairs": num_pairs,
                "same_hole": same_hole,
                "seed": seed,
                "features": features,
                "versions": environment()["versions"],
            },
        )
        if len(records):
            print(f"{name}: {len(records)} pictures were measured before, in {records.path}")
        part, measured = evaluate(
            complete,
            batches(),
            num_examples=num_examples,
            num_samples=num_samples,
            same_hole=same_hole,
            reconstruct=reconstruct,
            seed=seed,
            num_pairs=num_pairs or None,
            extractor=extractor,
            records=records,
            devices=inpainter.devices,
            name=name,
        )
        part["shown"] = choose_pictures(measured)
        return part

    def sheets(part: dict, complete: Complete) -> dict[str, np.ndarray]:
        """Contact sheets of the pictures that the part names, by title."""
        pictures = complete_pictures(complete, batches(), sum(part["shown"].values(), []))
        drawn = {}
        for title, indices in part["shown"].items():
            rows = zip(*(pictures[i] for i in indices), strict=True)
            images, masks, completions = map(np.stack, rows)
            drawn[title] = completion_sheet(images, masks, completions[:, :_SHOWN_SAMPLES])
        return drawn

    def measure_model(inpainter: Inpainter, name: str):
        complete = model(inpainter, num_samples, seed)
        guidance = inpainter.networks.guidance
        return measure(name, complete, inpainter.digest, guidance, inpainter.reconstruct), complete

    training = []
    for step in earlier:
        earlier_model = _load(step)
        part, _ = measure_model(earlier_model, f"step {step}")
        training.append(_at_step(earlier_model, part))
    report, complete = measure_model(inpainter, "model")
    if training:
        report["training"] = [*training, _at_step(inpainter, report)]
    drawn = sheets(report, complete)
    if folders:
        report["compared"] = {}
    for name, folder in folders.items():
        part = measure(name, folder.complete, folder.digest)
        kept = ("figures", "by_hole_share", "sets", "shown")
        report["compared"][name] = {key: part[key] for key in kept if key in part}
        report["compared"][name]["digest"] = folder.digest
        drawn |= {f"{name}, {title}": s for title, s in sheets(part, folder.complete).items()}
    if features is not None:
        report["features"] = features
    report["data"] = {
        "source": config.data.source,
        "split": _SPLIT.value,
        "image_size": config.image_size,
    }
    report["mask"] = mask.to_dict()
    return report, drawn


def _compared(num_examples: int, num_samples: int, image_size: int) -> dict:
    """The folders of --compare by their own names, all checked."""
    folders = {}
    for path in map(Path, _COMPARE.value):
        if _file_part(path.name) in map(_file_part, ("model", *folders)):
            raise ValueError(f"--compare={path}: another system is called {path.name!r} already.")
        folders[path.name] = CompletionsFolder(
            path, num_examples=num_examples, num_samples=num_samples, image_size=image_size
        )
    return folders


def _at_step(inpainter: Inpainter, part: dict) -> dict:
    """A checkpoint's place in the curves over training."""
    kept = {key: part[key] for key in ("figures", "sets") if key in part}
    return {"step": int(inpainter.step), "digest": inpainter.digest, **kept}


def _extractor() -> tuple[Extractor, dict[str, str]]:
    """The network for the figures over sets, and how the report names it."""
    if _INCEPTION.value is None:
        print(
            "No --inception_weights: FD-vgg16 and other proxies are reported, not FID. The weights "
            "file is pt_inception-2015-12-05-6726825d.pth, as pytorch-fid downloads it."
        )
        named = {
            "network": "VGG16, relu5_3 averaged",
            "frechet_distance": "FD-vgg16, not FID",
            "short_name": "FD-vgg16",
        }
        return lambda images: (vgg16_features(enlarge(images)), None), named
    path = Path(_INCEPTION.value).expanduser()
    params = on_default_device(load_inception(path))
    named = {
        "network": "InceptionV3 of 2015, as pytorch-fid",
        "frechet_distance": "FID of composites, bilinear to 299 x 299, 2x - 1",
        "short_name": "FID",
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return lambda images: inception(params(), images), named


def _posterior(inpainter: Inpainter, earlier: list[int], config: ml_collections.ConfigDict):
    num_samples, seed = config.eval.num_samples, config.eval.seed
    inpainters = {f"step {step}": _load(step) for step in earlier}
    inpainters["model"] = inpainter
    systems = {
        name: posterior_benchmark.model(each, num_samples, seed)
        for name, each in inpainters.items()
    }
    figures, sheet = posterior_benchmark.benchmark(
        {
            **systems,
            "own codes": posterior_benchmark.own_codes(inpainter, num_samples, seed),
            "oracle": posterior_benchmark.oracle(num_samples, seed),
            "mean colour": posterior_benchmark.mean_colour_fill(num_samples),
            "telea": posterior_benchmark.telea(num_samples),
        },
        image_size=config.image_size,
        num_examples=config.eval.num_examples,
        num_samples=num_samples,
        split=_SPLIT.value,
        seed=seed,
    )
    if earlier:
        figures["training"] = [
            _at_step(inpainters[name], {"figures": figures["figures"][name]}) for name in systems
        ]
    figures["data"] = {
        "source": "avatars",
        "split": _SPLIT.value,
        "image_size": config.image_size,
    }
    figures["mask"] = {"kind": "window", "region": FACE_WINDOW}
    return figures, {"first pictures": sheet}


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    command_line.run(main)
