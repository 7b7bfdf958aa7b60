"""Measures a trained model on the test split and writes a report.

    python evaluate.py --config=configs/tiny.py --workdir=DIR --output=report.json

Without --config the configuration that the model was trained with is used. What each figure is
stands in the report itself, under "variants".
"""

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from uctgan_jax import compilation_cache
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.evaluation import environment, evaluate, format_report, write_report
from uctgan_jax.inpainting import Inpainter

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration of data and evaluation.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the training run to evaluate.")
_OUTPUT = flags.DEFINE_string("output", "report.json", "The report to write.")
_SPLIT = flags.DEFINE_enum("split", "test", ["test", "validation", "train"], "Split to measure on.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    compilation_cache.enable()
    try:
        run()
    except (ValueError, OSError) as error:
        raise SystemExit(f"evaluate.py: {error}") from error


def run() -> None:
    # An output that cannot be written should not cost an evaluation first.
    Path(_OUTPUT.value).parent.mkdir(parents=True, exist_ok=True)
    if Path(_OUTPUT.value).is_dir():
        raise ValueError(f"--output={_OUTPUT.value} must be a file, but is a folder.")

    inpainter = Inpainter.load(_WORKDIR.value)
    config = _CONFIG.value or inpainter.config
    if config.image_size != inpainter.image_size:
        raise ValueError(
            f"image_size ({config.image_size}) in --config must be that of the model in "
            f"{_WORKDIR.value} ({inpainter.image_size})."
        )
    source = open_source(
        config.data.source,
        split=_SPLIT.value,
        image_size=config.image_size,
        data_dir=config.data.dir,
        avatars_examples=tuple(config.data.avatars_examples),
    )
    num_examples = min(config.eval.num_examples, len(source))
    batches = eval_batches(
        source,
        image_size=config.image_size,
        batch_size=config.eval.batch_size,
        mask_kind=config.mask.kind,
        hole_share=tuple(config.mask.hole_share),
        region=tuple(config.mask.region),
        seed=config.eval.seed,
        num_examples=num_examples,
    )
    report = {
        "protocol": "completion",
        **evaluate(
            inpainter,
            batches,
            num_examples=num_examples,
            num_samples=config.eval.num_samples,
            num_pairs=config.eval.get("num_pairs"),
            same_hole=config.mask.kind == "window"
            or (config.mask.kind == "center" and len(set(config.mask.hole_share)) == 1),
            seed=config.eval.seed,
        ),
        "checkpoint": {
            "workdir": _WORKDIR.value,
            "step": int(inpainter.step),
            "digest": inpainter.digest,
        },
        "data": {
            "source": config.data.source,
            "split": _SPLIT.value,
            "image_size": config.image_size,
        },
        "mask": config.mask.to_dict(),
        **environment(),
    }
    write_report(_OUTPUT.value, report)
    print(format_report(report))
    print(f"\nmodel at step {inpainter.step}; report written to {_OUTPUT.value}")


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main)
