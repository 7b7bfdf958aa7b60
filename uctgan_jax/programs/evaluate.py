"""Measures a trained model; writes a report as JSON, Markdown and HTML, and contact sheets.

    python evaluate.py --workdir=DIR --output=report.json
    python evaluate.py --workdir=DIR --output=posterior.json --protocol=posterior

Protocols (docs/evaluation.md defines every figure):
  completion  completions of a split's pictures against the truth, and against each other
  paper       the same, and figures over sets, of whole pictures and of the hole's crops: Frechet
              distance, precision, recall ... from VGG16's features; FID, IS, MIS, P-IDS and U-IDS
              with --inception_weights=pt_inception-2015-12-05-6726825d.pth
  posterior   completions of cartoon portraits with hidden faces against the exact posterior, beside
              an oracle and two baselines; needs the extra `avatars`

Several checkpoints of a run, as curves over training: --steps=all or --steps=1000,2000.
Another program, measured beside the model by the same code:

    python evaluate.py --workdir=DIR --export_inputs=INPUTS     # its inputs; then, after running it
    python evaluate.py --workdir=DIR --output=report.json --compare=COMPLETIONS

Without --config, the model's own configuration is used, and --config.eval.num_examples=100 changes
it. An interrupted evaluation goes on when it is started again with the same --output. The protocols
completion and paper run on several processes by the flags of train.py; all need the same --output,
on a file system that all mount.

Without a checkout the program is `uctgan-evaluate`.
"""

from pathlib import Path

import ml_collections
import numpy as np
from absl import flags

from uctgan_jax import command_line
from uctgan_jax.evaluation import extractors
from uctgan_jax.evaluation.compare import CompletionsFolder, export_inputs
from uctgan_jax.evaluation.completion import CompletionProtocol, open_test_set
from uctgan_jax.evaluation.provenance import environment
from uctgan_jax.evaluation.report import file_part, to_text, write_report
from uctgan_jax.files import make_writable
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.processes import are_several, together
from uctgan_jax.saved_models import saved_steps

FLAGS = flags.FlagValues()
_WORKDIR = command_line.define_path(
    "workdir",
    None,
    "Workdir of a run, saved weights, or the name of a bundled model.",
    FLAGS,
    required=True,
)
_CONFIG = command_line.define_config(
    "Configuration of data and evaluation; by default the model's.", FLAGS, default_of="workdir"
)
_OUTPUT = command_line.define_path("output", "report.json", "The report to write.", FLAGS)
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation", "train"], "Split to measure on.", flag_values=FLAGS
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol",
    "completion",
    ["completion", "paper", "posterior"],
    "What to measure.",
    flag_values=FLAGS,
)
_INCEPTION = command_line.define_path(
    "inception_weights", None, "FID's weights file of 2015, for --protocol=paper.", FLAGS
)
_STEPS = flags.DEFINE_string(
    "steps",
    None,
    "Checkpoints to measure: all, or steps as in 200,400. By default the newest.",
    flag_values=FLAGS,
)
_EXPORT = command_line.define_path(
    "export_inputs",
    None,
    "Write inputs, masks and truths to this folder, and measure nothing.",
    FLAGS,
)
_COMPARE = command_line.define_paths(
    "compare", "Folder of another program's completions of these inputs", FLAGS
)
command_line.define_process_flags(FLAGS)


def main() -> None:
    command_line.run(_evaluate, FLAGS)


def _evaluate() -> None:
    command_line.prepare_jax()
    command_line.join_processes(FLAGS, catch_sigterm=False)
    with together("model loaded"):
        _check_flags()
        steps = _steps()
        inpainter = _load(steps[-1])
        config = _CONFIG.value or inpainter.config
        _check_config(config, inpainter)
    if _EXPORT.value is not None:
        _export(config, _EXPORT.value)
        return
    # Only the extra `avatars` has what the exact posterior needs.
    protocol = _posterior if _PROTOCOL.value == "posterior" else _completion
    result = protocol(inpainter, steps[:-1], config)
    with together("report written"):
        if result is not None:
            _write(inpainter, *result)


def _write(inpainter: Inpainter, figures: dict, sheets: dict[str, np.ndarray]) -> None:
    report = {
        "protocol": _PROTOCOL.value,
        **figures,
        "checkpoint": {
            "workdir": str(_WORKDIR.value),
            "step": int(inpainter.step),
            "digest": inpainter.digest,
        },
        **environment(),
    }
    write_report(_OUTPUT.value, report, sheets)
    print(to_text(report))
    print(f"\nWrote {_OUTPUT.value}, .md and .html, and contact sheets beside it.")


def _completion(inpainter: Inpainter, earlier: list[int], config: ml_collections.ConfigDict):
    with together("pictures found"):
        extractor = _extractor() if _PROTOCOL.value == "paper" else None
        test_set = open_test_set(config, _SPLIT.value)
        folders = _compared(test_set.num_examples, config)
        protocol = CompletionProtocol(
            config, test_set, extractor=extractor, cache_folder=_OUTPUT.value.with_suffix(".cache")
        )
        checkpoints = [_load(step) for step in earlier]
    result = protocol.run(inpainter, checkpoints, folders)
    if result is not None:
        report, _ = result
        report["data"] = _data(config.data.source, config)
        report["mask"] = config.mask.to_dict()
    return result


def _posterior(inpainter: Inpainter, earlier: list[int], config: ml_collections.ConfigDict):
    from uctgan_jax.avatars.benchmark import benchmark_model
    from uctgan_jax.avatars.posterior import FACE_WINDOW

    report, sheets = benchmark_model(
        inpainter,
        [_load(step) for step in earlier],
        image_size=config.image_size,
        num_examples=config.eval.num_examples,
        num_samples=config.eval.num_samples,
        split=_SPLIT.value,
        seed=config.eval.seed,
    )
    report["data"] = _data("avatars", config)
    report["mask"] = {"kind": "window", "region": FACE_WINDOW}
    return report, sheets


def _data(source: str, config: ml_collections.ConfigDict) -> dict[str, str | int]:
    return {"source": source, "split": _SPLIT.value, "image_size": config.image_size}


def _export(config: ml_collections.ConfigDict, folder: Path) -> None:
    test_set = open_test_set(config, _SPLIT.value)
    export_inputs(test_set.batches(), folder, num_examples=test_set.num_examples)
    print(f"{test_set.num_examples} inputs with masks and truths are in {folder}")


def _extractor() -> extractors.Extractor:
    if _INCEPTION.value is not None:
        return extractors.fid_inception(_INCEPTION.value)
    print(
        "No --inception_weights: FD-vgg16 and other proxies are reported, not FID. The weights "
        "file is pt_inception-2015-12-05-6726825d.pth, as pytorch-fid downloads it."
    )
    return extractors.vgg16()


def _compared(num_examples: int, config: ml_collections.ConfigDict) -> dict[str, CompletionsFolder]:
    """The folders of --compare by their own names, all checked."""
    folders: dict[str, CompletionsFolder] = {}
    for path in _COMPARE.value:
        if file_part(path.name) in map(file_part, ("model", *folders)):
            raise ValueError(f"--compare={path}: another system is called {path.name!r} already.")
        folders[path.name] = CompletionsFolder(
            path,
            num_examples=num_examples,
            num_samples=config.eval.num_samples,
            image_size=config.image_size,
        )
    return folders


def _load(step: int | None) -> Inpainter:
    return Inpainter.load(_WORKDIR.value, step)


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


def _check_flags() -> None:
    """Refuses what could not be written, or would be ignored, before the long work."""
    if _PROTOCOL.value == "posterior" and (_COMPARE.value or _EXPORT.value):
        raise ValueError(
            "--compare and --export_inputs are for the protocols completion and paper."
        )
    if are_several() and (_PROTOCOL.value == "posterior" or _EXPORT.value):
        raise ValueError(
            "Several processes are for the protocols completion and paper, without --export_inputs."
        )
    if _INCEPTION.value is not None and _PROTOCOL.value != "paper":
        raise ValueError(
            f"--inception_weights is for --protocol=paper: {_PROTOCOL.value} does not use them."
        )
    if _EXPORT.value is not None:
        if _COMPARE.value:
            raise ValueError(
                "--export_inputs measures nothing: give --compare once the other program has run."
            )
        return
    output = _OUTPUT.value
    make_writable(output.parent)
    if output.is_dir():
        raise ValueError(f"--output={output} must be a file, but is a folder.")
    if output.suffix in (".md", ".html"):
        raise ValueError(f"--output={output} must not end in {output.suffix}: that is written too.")


def _check_config(config: ml_collections.ConfigDict, inpainter: Inpainter) -> None:
    """Raises a ValueError that names the first field which makes no sense."""
    if config.image_size != inpainter.image_size:
        raise ValueError(
            f"image_size ({config.image_size}) in --config must be that of the model in "
            f"{_WORKDIR.value} ({inpainter.image_size})."
        )
    for name in ("num_examples", "num_samples", "num_pairs", "batch_size"):
        if config.eval.get(name, 1) < 1:
            raise ValueError(f"eval.{name} ({config.eval[name]}) must be 1 or more.")
    if not 0 <= config.eval.seed < 2**32:
        raise ValueError(f"eval.seed ({config.eval.seed}) must be from 0 to {2**32 - 1}.")
