"""Configs of runs: what they are held to, what may differ when a run goes on.

The fields, with their meaning, are in `configs/paper.py` (the method) and `configs/default.py`
(everything else); those of the learned prior's training are in `configs/prior.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_collections

from uctgan_jax.configs import default
from uctgan_jax.data.masks import MaskOptions, check_mask_options
from uctgan_jax.optimizers import OPTIMIZERS

# What may differ when a run goes on. None of it changes the numbers of a step, except the length of
# the run, which the learning rates' fall depends on, and what to try when steps are not finite.
RESUMABLE_FIELDS = frozenset(
    {
        "num_train_steps",
        "optimizer.generator_learning_rate",
        "optimizer.discriminator_learning_rate",
        "optimizer.learning_rate",
        "compute_dtype",
        "log_every_steps",
        "checkpoint_every_steps",
        "sample_every_steps",
        "parallel",
        "remat",
        "gradient_accumulation",
        "max_nonfinite_steps",
        "data.dir",
        "data.num_threads",
        "data.cache_gib",
        "data.max_corrupt",
        "eval",
    }
)


class ConfigMismatchError(ValueError):
    """A workdir holds a run of another config, or of one that is not there to compare."""


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises a ValueError that names the first field of a training config which makes no sense.

    Sizes of networks are checked where these are built (`nets.build_networks`).
    """
    check_fields(config, default.get_config(), "configs/default.py")
    check_run_fields(config)
    _check_at_least(config, 0, "reconstruction_steps")
    _check_in(config, 0, 1, "colour_jitter")
    _check_in(config, 1, float("inf"), "data.zoom", open_end=True)
    _check_losses(config)
    check_mask_options(
        MaskOptions(**config.mask), image_size=config.image_size, zoom=config.data.zoom
    )


def check_fields(
    config: ml_collections.ConfigDict, complete: ml_collections.ConfigDict, file: str
) -> None:
    """Holds the fields that a config has against those that it should have.

    Args:
      config: what a program was given; perhaps that of another program.
      complete: a config with every field.
      file: which one that is, for the error.

    Raises:
      ValueError: names the fields that are missing, and those that nothing would read.
    """
    pairs = _differences(config_dict(complete), config_dict(config)).items()
    missing = [name for name, (_, value) in pairs if value is None]
    unknown = [name for name, (value, _) in pairs if value is None]
    problems = [f"has no {', '.join(missing)}"] if missing else []
    problems += [f"has {', '.join(unknown)}"] if unknown else []
    if problems:
        raise ValueError(f"the config {' and '.join(problems)}: it must have the fields of {file}")


def check_run_fields(config: ml_collections.ConfigDict) -> None:
    """Checks the fields that both trainings have; raises a ValueError."""
    _check_at_least(
        config,
        1,
        "num_train_steps",
        "batch_size",
        "log_every_steps",
        "checkpoint_every_steps",
        "sample_every_steps",
        "max_nonfinite_steps",
        "gradient_accumulation",
    )
    _check_at_least(config, 0, "data.num_threads", "data.max_corrupt")
    _check_in(config, 0, 2**32, "seed", open_end=True)
    _check_in(config, 0, float("inf"), "data.cache_gib", open_end=True)
    _check_in(config, 0, 1, "optimizer.decay_share")
    for name in config.optimizer:
        if name.endswith("learning_rate"):
            _check_in(config, 0, float("inf"), f"optimizer.{name}", open_end=True)
    for name in ("ema_decay", "optimizer.beta1", "optimizer.beta2"):
        _check_in(config, 0, 1, name, open_end=True)
    if config.optimizer.name not in OPTIMIZERS:
        raise ValueError(
            f"optimizer.name ({config.optimizer.name!r}) must be one of {', '.join(OPTIMIZERS)}"
        )


def _check_losses(config: ml_collections.ConfigDict) -> None:
    for name in config.loss:
        _check_in(config, 0, float("inf"), f"loss.{name}", open_end=True)
    if not any(config.loss.values()):
        raise ValueError("every weight in loss is 0: there is nothing to train")
    reconstruction = ("reconstruction", "reconstruction_hole", "reconstruction_square")
    if config.reconstruction_steps and not any(
        config.loss[name] for name in (*reconstruction, "perceptual")
    ):
        raise ValueError(
            f"reconstruction_steps ({config.reconstruction_steps}) must be 0 when"
            f" {', '.join(f'loss.{name}' for name in reconstruction)} and loss.perceptual are 0"
        )


def _check_at_least(config: ml_collections.ConfigDict, least: int, *names: str) -> None:
    for name in names:
        value = _field(config, name)
        if value < least:
            raise ValueError(f"{name} ({value}) must be {least} or more")


def _check_in(
    config: ml_collections.ConfigDict,
    least: float,
    most: float,
    name: str,
    *,
    open_end: bool = False,
) -> None:
    value = _field(config, name)
    if not (least <= value < most if open_end else least <= value <= most):
        bracket = ")" if open_end else "]"
        raise ValueError(f"{name} ({value}) must be in [{least}, {most}{bracket}")


def _field(config: ml_collections.ConfigDict, name: str) -> Any:
    for part in name.split("."):
        config = config[part]
    return config


def config_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config as JSON holds it: tuples become lists."""
    return json.loads(config.to_json())


def refused_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple]:
    """The fields in which two configs (as JSON) differ and a run may not: (old, new) values."""
    return {
        name: values
        for name, values in _differences(old, new).items()
        if name not in RESUMABLE_FIELDS and name.partition(".")[0] not in RESUMABLE_FIELDS
    }


def describe_differences(differences: Mapping[str, tuple], old: str, new: str) -> str:
    """Differences in words: "name: 1 there, 2 now", for `old` "there" and `new` "now"."""
    return "; ".join(
        f"{name}: {before!r} {old}, {after!r} {new}"
        for name, (before, after) in differences.items()
    )


def check_same_run(workdir: Path, config: ml_collections.ConfigDict, steps: Iterable[int]) -> None:
    """Holds a config against that of the run in a workdir, which has checkpoints of `steps`.

    Raises:
      ConfigMismatchError: if it differs in more than `RESUMABLE_FIELDS`, or cannot be read.
    """
    steps = sorted(steps)
    if not steps:  # nothing that could be lost
        return
    path = workdir / "config.json"
    if not path.exists():
        raise ConfigMismatchError(
            f"{workdir} has checkpoints of steps {steps}, but no config.json to tell what run they"
            " are of; put it back, or choose another workdir"
        )
    try:
        old = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigMismatchError(f"{path} is damaged: {error}") from error
    differences = refused_differences(old, config_dict(config))
    if differences:
        raise ConfigMismatchError(
            f"{workdir} holds a run of another config"
            f" ({describe_differences(differences, 'there', 'now')}); choose another workdir"
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple]:
    differences: dict[str, tuple] = {}
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            inner = _differences(before, after)
            differences |= {f"{name}.{key}": values for key, values in inner.items()}
        elif before != after:
            differences[name] = (before, after)
    return differences
