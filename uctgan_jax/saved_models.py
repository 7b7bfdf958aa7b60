"""Trained models where they are saved: a run's checkpoints, folders of weights, bundled models."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import ml_collections

from uctgan_jax.nets import Networks, build_networks
from uctgan_jax.prior import Prior, build_prior, summarize
from uctgan_jax.weights import (
    MODEL,
    OtherNetworksError,
    check_structure,
    is_weights_folder,
    read_weights,
)

PyTree = Any

PRETRAINED = Path(__file__).parent / "pretrained"


def read_model(
    path: str | Path, step: int | None = None
) -> tuple[PyTree, dict[str, Any], int, str]:
    """Parameters, config, step and digest of a saved model.

    Args:
        path: a run's workdir, its folder of checkpoints, one checkpoint in it, a folder of weights,
            or the name of a bundled model.
        step: which checkpoint of a run; None for the newest.

    Raises:
        FileNotFoundError: if there is no such model or checkpoint.
        DamagedCheckpointError: if it is damaged.
    """
    folder, step = _find_model(path, step)
    if is_weights_folder(folder):
        params, config, saved_step, digest = read_weights(folder)
        if step not in (None, saved_step):
            raise FileNotFoundError(f"{path} holds step {saved_step} alone, not {step}")
        return params, config, saved_step, digest
    # Orbax takes a second or two to import: only for those who load what it saved.
    from uctgan_jax.checkpoints import Checkpoints

    with Checkpoints(folder, read_only=True) as checkpoints:
        step, params, config, digest = checkpoints.restore_model(step)
    return params, config, step, digest


def read_config(path: str | Path) -> ml_collections.ConfigDict:
    """The config that a saved model was trained with; `path` and errors as for `read_model`.

    It has tuples where JSON has lists, as a config file has.
    """
    folder, _ = _find_model(path, None)
    file = folder / MODEL if is_weights_folder(folder) else folder.parent / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"{path} has no config.json beside its checkpoints")
    config = json.loads(file.read_text())
    config = config["config"] if file.name == MODEL else config

    def with_tuples(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: with_tuples(inner) for name, inner in value.items()}
        return tuple(map(with_tuples, value)) if isinstance(value, list) else value

    return ml_collections.ConfigDict(with_tuples(config))


def build_model(config: Mapping[str, Any], *, source: str) -> tuple[Networks, Prior]:
    """The networks and the prior of a saved model.

    Args:
        config: that it was saved with, as JSON holds it.
        source: where it is, for errors.

    Raises:
        OtherNetworksError: if the config has fields that this version does not know.
    """
    sizes = dict(image_size=config["image_size"], compute_dtype=config["compute_dtype"])
    try:
        inspect.signature(build_networks).bind(**sizes, **config["model"])
    except TypeError as error:
        raise OtherNetworksError(
            f"{source} was saved by another version of this code: config.model has {error}"
        ) from error
    networks = build_networks(**sizes, **config["model"])
    prior = build_prior(
        config.get("prior"), code_dim=networks.code_dim, compute_dtype=config["compute_dtype"]
    )
    return networks, prior


def check_params(params: PyTree, networks: Networks, prior: Prior, *, source: str) -> None:
    """Holds the parameters of E1, E2, G and the prior against those that these would begin with.

    Raises:
        OtherNetworksError: if names or shapes differ.
    """

    def init(key: jax.Array) -> PyTree:
        fresh = networks.init_generator(key)
        image, mask = networks.example()
        condition = summarize(networks.encode(fresh, image, mask))
        return fresh | {"prior": prior.init(key, condition)}

    expected = jax.eval_shape(init, jax.random.key(0))
    check_structure({name: params.get(name, {}) for name in expected}, expected, source=source)


def bundled_models() -> list[str]:
    """The names of the models that come with the package, for `Inpainter.load`."""
    return sorted(folder.name for folder in PRETRAINED.glob("*") if is_weights_folder(folder))


def saved_steps(path: str | Path) -> list[int]:
    """The steps there are, the oldest first; `path` and errors as for `read_model`."""
    folder, step = _find_model(path, None)
    if is_weights_folder(folder):
        return [read_weights(folder)[2]]
    from uctgan_jax.checkpoints import Checkpoints

    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.steps() if step is None else [step]


def _find_model(path: str | Path, step: int | None) -> tuple[Path, int | None]:
    """The folder of weights or of checkpoints that a path or a name stands for, and the step."""
    folder = Path(path)
    if (folder / "checkpoints").is_dir():
        return folder / "checkpoints", step
    if folder.name.isdecimal() and (folder / "model").is_dir():  # one checkpoint
        if step not in (None, int(folder.name)):
            raise FileNotFoundError(f"{path} holds step {folder.name} alone, not {step}")
        return folder.parent, int(folder.name)
    if folder.is_dir():
        return folder, step
    if str(path) in bundled_models():
        return PRETRAINED / path, step
    raise FileNotFoundError(
        f"{path} is neither a run's workdir, nor a folder of checkpoints or weights, nor one of"
        f" the models that come with the package ({', '.join(bundled_models()) or 'none'})"
    )
