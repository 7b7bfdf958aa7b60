"""Trained weights as two plain files: what is shipped, and what inference needs nothing else for.

A folder of weights holds `weights.npz`, one array a parameter under its path in the tree
(`generator.Dense_0.kernel`), and `model.json`: config, step and digest. Arrays are kept as float16,
half the size, and come back as float32; it moves a completion by at most a level of 255 or two.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from uctgan_jax.files import write_atomically

PyTree = Any

WEIGHTS = "weights.npz"
MODEL = "model.json"
SEPARATOR = "."
# What damaged files raise.
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


class DamagedCheckpointError(ValueError):
    """Saved arrays that cannot be read or are not what was saved."""


class OtherNetworksError(ValueError):
    """Saved arrays that are sound, but not those of the networks and optimisers here."""


def check_structure(saved: PyTree, expected: PyTree, *, source: str) -> None:
    """Holds saved arrays against those that the code here works with.

    Args:
        saved, expected: trees of anything with a shape.
        source: where the saved ones are, for the error.

    Raises:
        OtherNetworksError: if names or shapes differ.
    """
    there, here = _shapes(saved), _shapes(expected)
    differing = sorted(name for name in {*there, *here} if there.get(name) != here.get(name))
    if differing:
        name = differing[0]
        raise OtherNetworksError(
            f"{source} was saved by another version of this code: {len(differing)} of its arrays"
            f" differ, as {name}, which is {there.get(name, 'missing')} there and"
            f" {here.get(name, 'missing')} here"
        )


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path, simple=True, separator=SEPARATOR): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def digest(tree: PyTree) -> str:
    """SHA-256 over every array of a tree: path, type, shape and bytes. Hexadecimal."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        sha.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape};".encode())
        sha.update(array.view(np.uint8).data if array.ndim else array.tobytes())
    return sha.hexdigest()


def is_weights_folder(folder: Path) -> bool:
    """Whether a folder holds weights of this format."""
    return (folder / MODEL).is_file()


def write_weights(folder: Path, params: PyTree, config: Mapping[str, Any], step: int) -> None:
    """Writes a folder of weights.

    Args:
        folder: where to; made if missing.
        params: a tree of dicts of float arrays.
        config: of the run, as JSON can hold it.
        step: of the run.

    Raises:
        ValueError: if a parameter is beyond what float16 holds.
    """
    halves = {}
    for name, array in flax.traverse_util.flatten_dict(params, sep=SEPARATOR).items():
        array = np.asarray(array, np.float32)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"parameter {name} has values that float16 cannot hold")
        halves[name] = half
    folder.mkdir(parents=True, exist_ok=True)
    model = {"step": int(step), "digest": digest(_tree(halves)), "config": dict(config)}
    # Both are there before one of them takes the place of an earlier model's.
    with (
        write_atomically(folder / MODEL) as description,
        write_atomically(folder / WEIGHTS) as file,
    ):
        np.savez_compressed(file, **halves)
        description.write((json.dumps(model, indent=2) + "\n").encode())


def read_weights(folder: Path) -> tuple[PyTree, dict[str, Any], int, str]:
    """Reads a folder of weights.

    Returns:
        The parameters as float32 arrays, the config, the step, and the parameters' digest.

    Raises:
        DamagedCheckpointError: if a file cannot be read or the arrays are not those written.
    """
    try:
        model = json.loads((folder / MODEL).read_text())
        with np.load(folder / WEIGHTS) as arrays:
            params = _tree({name: arrays[name] for name in arrays.files})
        config, step, expected = model["config"], model["step"], model["digest"]
    except _UNREADABLE as error:
        raise DamagedCheckpointError(f"the weights in {folder} cannot be read ({error})") from error
    if digest(params) != expected:
        raise DamagedCheckpointError(
            f"the weights in {folder} are damaged: {WEIGHTS} does not hold the arrays that {MODEL}"
            " has the digest of"
        )
    return params, config, step, expected


def _tree(halves: Mapping[str, np.ndarray]) -> PyTree:
    floats = {name: array.astype(np.float32) for name, array in halves.items()}
    return flax.traverse_util.unflatten_dict(floats, sep=SEPARATOR)
