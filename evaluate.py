"""Measures a trained model; writes a report as JSON, Markdown and HTML, and a contact sheet.

    python evaluate.py --workdir=DIR --output=report.json
    python evaluate.py --workdir=DIR --output=posterior.json --protocol=posterior

Protocols (docs/evaluation.md defines every figure):
  completion  completions of a split's pictures against the truth, and against each other
  paper       the same, and figures over sets: FID, IS, MIS, P-IDS, U-IDS, precision, recall ...
              with --inception_weights=pt_inception-2015-12-05-6726825d.pth; without that file,
              proxies of them from VGG16
  posterior   completions of portraits with hidden faces against the exact posterior; next to the
              model stand the oracle and two baselines

Without --config the configuration that the model was trained with is used.
"""

import hashlib
from pathlib import Path

import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags

from uctgan_jax import compilation_cache, posterior_benchmark
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.evaluation import (
    Extractor,
    environment,
    evaluate,
    format_report,
    write_report,
)
from uctgan_jax.images import completion_sheet, write_image
from uctgan_jax.inpainting import Inpainter
from uctgan_jax.metrics.diversity import enlarge
from uctgan_jax.metrics.inception import inception, load_inception
from uctgan_jax.metrics.lpips import vgg16_features
from uctgan_jax.metrics.posterior import FACE_WINDOW
from uctgan_jax.report import to_html, to_markdown

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

_SHOWN_SAMPLES = 8  # completions a row of the contact sheet


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what we asked for
    compilation_cache.enable()
    try:
        run()
    except (ValueError, OSError) as error:
        raise SystemExit(f"evaluate.py: {error}") from error


def run() -> None:
    output = Path(_OUTPUT.value)
    # An output that cannot be written should not cost an evaluation first.
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.is_dir():
        raise ValueError(f"--output={output} must be a file, but is a folder.")

    inpainter = Inpainter.load(_WORKDIR.value)
    config = _CONFIG.value or inpainter.config
    if config.image_size != inpainter.image_size:
        raise ValueError(
            f"image_size ({config.image_size}) in --config must be that of the model in "
            f"{_WORKDIR.value} ({inpainter.image_size})."
        )
    measure = _posterior if _PROTOCOL.value == "posterior" else _completion
    figures, table, sheet = measure(inpainter, config)
    report = {
        "protocol": _PROTOCOL.value,
        **figures,
        "checkpoint": {
            "workdir": _WORKDIR.value,
            "step": int(inpainter.step),
            "digest": inpainter.digest,
        },
        **environment(),
    }
    write_report(output, report)
    sheet_path = output.with_name("contact_sheet.png")
    write_image(sheet_path, sheet)
    output.with_suffix(".md").write_text(to_markdown(report, sheet_path.name))
    output.with_suffix(".html").write_text(to_html(report, sheet))
    print(table)
    print(f"\nmodel at step {inpainter.step}; wrote {output}, .md and .html, and {sheet_path}")


def _completion(inpainter: Inpainter, config: ml_collections.ConfigDict):
    extractor, features = _extractor() if _PROTOCOL.value == "paper" else (None, None)
    source = open_source(
        config.data.source,
        split=_SPLIT.value,
        image_size=config.image_size,
        data_dir=config.data.dir,
        avatars_examples=tuple(config.data.avatars_examples),
        max_corrupt=config.data.max_corrupt,
    )
    mask = config.mask
    num_examples = min(config.eval.num_examples, len(source))
    num_samples = config.eval.num_samples
    num_pairs = min(config.eval.get("num_pairs", 50), num_samples * (num_samples - 1) // 2)
    batches = eval_batches(
        source,
        image_size=config.image_size,
        batch_size=config.eval.batch_size,
        mask_kind=mask.kind,
        hole_share=tuple(mask.hole_share),
        region=tuple(mask.region),
        mask_convention=mask.convention,
        seed=config.eval.seed,
        num_examples=num_examples,
    )
    figures, shown = evaluate(
        inpainter,
        batches,
        num_examples=num_examples,
        num_samples=num_samples,
        num_pairs=num_pairs or None,
        same_hole=mask.kind == "window"
        or (mask.kind == "center" and len(set(mask.hole_share)) == 1),
        seed=config.eval.seed,
        extractor=extractor,
    )
    if features is not None:
        figures["features"] = features
    table = format_report(figures)
    shown["completions"] = shown["completions"][:, :_SHOWN_SAMPLES]
    figures["data"] = {
        "source": config.data.source,
        "split": _SPLIT.value,
        "image_size": config.image_size,
    }
    figures["mask"] = mask.to_dict()
    return figures, table, completion_sheet(**shown)


def _extractor() -> tuple[Extractor, dict[str, str]]:
    """The network for the figures over sets, and how the report names it."""
    if _INCEPTION.value is None:
        print(
            "No --inception_weights: FD-vgg16 and other proxies are reported, not FID. The weights "
            "file is pt_inception-2015-12-05-6726825d.pth, as pytorch-fid downloads it."
        )
        named = {"network": "VGG16, relu5_3 averaged", "frechet_distance": "FD-vgg16, not FID"}
        return lambda images: (vgg16_features(enlarge(images)), None), named
    path = Path(_INCEPTION.value).expanduser()
    params = load_inception(path)
    named = {
        "network": "InceptionV3 of 2015, as pytorch-fid",
        "frechet_distance": "FID of composites, bilinear to 299 x 299, 2x - 1",
        "weights": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return lambda images: inception(params, images), named


def _posterior(inpainter: Inpainter, config: ml_collections.ConfigDict):
    num_samples, seed = config.eval.num_samples, config.eval.seed
    figures, sheet = posterior_benchmark.benchmark(
        {
            "model": posterior_benchmark.model(inpainter, num_samples, seed),
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
    figures["data"] = {
        "source": "avatars",
        "split": _SPLIT.value,
        "image_size": config.image_size,
    }
    figures["mask"] = {"kind": "window", "region": FACE_WINDOW}
    return figures, posterior_benchmark.format_benchmark(figures), sheet


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
