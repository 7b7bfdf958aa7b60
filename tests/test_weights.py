"""Weights as plain files: what comes back, and that damage is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import assert_trees_equal
from uctgan_jax.weights import (
    MODEL,
    WEIGHTS,
    DamagedCheckpointError,
    OtherNetworksError,
    check_structure,
    digest,
    read_weights,
    write_weights,
)

CONFIG = {"image_size": 32, "model": {"widths": [8, 16]}}


@pytest.fixture
def params():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 4, 8)).astype(np.float32)
    return {
        "generator": {"conv": {"kernel": kernel, "gain": np.float32(0.1)}},
        "encoder": {},
        "discriminator": {"Dense_0": {"kernel": kernel[0, 0]}},
    }


def test_weights_come_back_to_half_precision(tmp_path, params):
    write_weights(tmp_path / "new" / "folder", params, CONFIG, 12)
    read, config, step, sha = read_weights(tmp_path / "new" / "folder")
    assert config == CONFIG and step == 12 and sha == digest(read)
    del params["encoder"]  # it has no array
    assert_trees_equal(read, params, rtol=2**-11)
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(read))
    # What was rounded once is exact from then on.
    write_weights(tmp_path, read, CONFIG, 12)
    assert_trees_equal(read_weights(tmp_path)[0], read)
    assert read_weights(tmp_path)[3] == sha


def test_weights_that_cannot_be_written_leave_the_earlier_ones(tmp_path, params, monkeypatch):
    write_weights(tmp_path, params, CONFIG, 12)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*arguments, **arrays):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        write_weights(tmp_path, jax.tree.map(lambda x: x + 1, params), CONFIG, 13)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_values_that_half_precision_cannot_hold_are_refused(tmp_path, params):
    params["generator"]["conv"]["kernel"][0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="generator.conv.kernel has values that float16"):
        write_weights(tmp_path, params, CONFIG, 12)
    assert not list(tmp_path.iterdir())


def test_other_arrays_than_those_written_are_refused(tmp_path, params):
    write_weights(tmp_path, params, CONFIG, 12)
    params["generator"]["conv"]["kernel"][0, 0, 0, 0] += 1
    write_weights(tmp_path / "other", params, CONFIG, 12)
    (tmp_path / "other" / WEIGHTS).replace(tmp_path / WEIGHTS)
    with pytest.raises(DamagedCheckpointError, match="are damaged"):
        read_weights(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, MODEL])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped"])
def test_files_that_cannot_be_read_are_refused(tmp_path, params, name, damage):
    write_weights(tmp_path, params, CONFIG, 12)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    if damage == "empty":
        (tmp_path / name).write_bytes(b"")
    elif damage == "cut":
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    elif damage == "flipped":  # 20 bytes, in an array or in the JSON
        middle = len(data) // 2
        flipped = bytes(255 - byte for byte in data[middle : middle + 20])
        (tmp_path / name).write_bytes(data[:middle] + flipped + data[middle + 20 :])
    with pytest.raises(DamagedCheckpointError, match="cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.zeros(4, np.float32), "b": np.zeros((), np.float32)},
        {"a": np.zeros((2, 2), np.float32), "b": np.ones((), np.float32)},
        {"a": np.zeros((2, 2), np.int32), "b": np.zeros((), np.float32)},
        {"a": np.zeros((2, 2), np.float32), "c": np.zeros((), np.float32)},
    ],
)
def test_digest_tells_shapes_values_types_and_names_apart(other):
    tree = {"a": np.zeros((2, 2), np.float32), "b": np.zeros((), np.float32)}
    assert digest(tree) == digest(jax.tree.map(jnp.asarray, tree))
    assert digest(tree) != digest(other)


def test_arrays_of_other_networks_are_refused_by_name(params):
    check_structure(params, jax.eval_shape(lambda: params), source="here")
    wider = params | {"discriminator": {"Dense_0": {"kernel": np.zeros((4, 9), np.float32)}}}
    message = (
        r"saved/1 was saved by another version of this code: 1 of its arrays differ, as"
        r" discriminator\.Dense_0\.kernel, which is \(4, 8\) there and \(4, 9\) here"
    )
    with pytest.raises(OtherNetworksError, match=message):
        check_structure(params, wider, source="saved/1")
    without = {name: tree for name, tree in params.items() if name != "discriminator"}
    with pytest.raises(OtherNetworksError, match=r"which is \(4, 8\) there and missing here"):
        check_structure(params, without, source="saved/1")
