"""Trained models where they are saved: a run's checkpoints, folders of weights, bundled models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uctgan_jax.weights import is_weights_folder, read_weights

PyTree = Any

PRETRAINED = Path(__file__).parent / "pretrained"


def read_model(
    path: str | Path, step: int | None = None
) -> tuple[PyTree, dict[str, Any], int, str]:
    """Parameters, config, step and digest of a saved model; arguments and errors as for `load`."""
    folder = _find_model(path)
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


def bundled_models() -> list[str]:
    """The names of the models that come with the package, for `Inpainter.load`."""
    return sorted(folder.name for folder in PRETRAINED.glob("*") if is_weights_folder(folder))


def saved_steps(path: str | Path) -> list[int]:
    """The steps there are, the oldest first; `path` as for `Inpainter.load`.

    Raises:
        FileNotFoundError: if there is no such model.
    """
    folder = _find_model(path)
    if is_weights_folder(folder):
        return [read_weights(folder)[2]]
    from uctgan_jax.checkpoints import Checkpoints

    with Checkpoints(folder, read_only=True) as checkpoints:
        return checkpoints.steps()


def _find_model(path: str | Path) -> Path:
    """The folder of weights or of checkpoints that a path or a name stands for."""
    folder = Path(path).expanduser()
    if (folder / "checkpoints").is_dir():
        return folder / "checkpoints"
    if folder.is_dir():
        return folder
    if str(path) in bundled_models():
        return PRETRAINED / path
    raise FileNotFoundError(
        f"{path} is neither a run's workdir, nor a folder of checkpoints or weights, nor one of"
        f" the models that come with the package ({', '.join(bundled_models()) or 'none'})"
    )
