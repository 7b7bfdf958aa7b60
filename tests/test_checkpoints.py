"""Checkpoints come back as they went in, and say when they do not."""

import logging
import shutil
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pytest
from absl import logging as absl_logging

from tests.conftest import assert_trees_equal
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.weights import DamagedCheckpointError, OtherNetworksError, digest

CONFIG = {"image_size": 32, "widths": [8, 16]}


def model_at(step):
    rng = np.random.default_rng(step)
    kernel = rng.standard_normal((64, 256), np.float32)
    return {"generator": {"kernel": kernel, "gamma": np.float32(0.5)}}


def state_at(step):
    """The rest, with a structure like that of an optimiser's state."""
    rng = np.random.default_rng(-step % 100)
    moments = {"kernel": rng.standard_normal((64, 256), np.float32)}
    return {
        "step": np.int32(step),
        "opt_state": ({"count": np.int32(step), "mu": moments}, ()),
    }


def save(folder, *steps, errors=None):
    """Checkpoints of steps, each better than those before it unless `errors` says otherwise."""
    errors = errors or [1 / step for step in steps]
    with Checkpoints(folder) as checkpoints:
        for step, error in zip(steps, errors, strict=True):
            checkpoints.save(step, model_at(step), state_at(step), CONFIG, error)


def restored_step(checkpoints):
    """The step of the newest sound checkpoint, whose arrays are those saved."""
    model, state = checkpoints.restore_latest(model_at(0), state_at(0))
    step = int(state["step"])
    assert_trees_equal((model, state), (model_at(step), state_at(step)))
    return step


def damage(folder, step, item):
    """Flips one bit of the largest file of an item: what Orbax itself does not notice."""
    files = [f for f in (Path(folder) / str(step) / item).rglob("*") if f.is_file()]
    file = max(files, key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_round_trip_is_exact(tmp_path):
    save(tmp_path, 3)
    with Checkpoints(tmp_path) as checkpoints:
        assert restored_step(checkpoints) == 3
        step, model, config, sha = checkpoints.restore_model()
    assert step == 3 and config == CONFIG
    assert_trees_equal(model, model_at(3))
    assert sha == digest(model_at(3))


def test_a_checkpoint_that_cannot_be_saved_is_an_error(tmp_path):
    save(tmp_path, 2)
    with pytest.raises(ValueError, match=r"step 1 cannot be saved in .* \[2\]"):
        save(tmp_path, 1)


def test_only_reading_warns_of_nothing_and_silences_no_others(tmp_path, caplog):
    save(tmp_path, 1)
    caplog.clear()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.restore_model()
    absl_logging.warning("of something else")
    assert [record.getMessage() for record in caplog.records] == ["of something else"]


def test_nothing_there(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(model_at(0), state_at(0)) is None
        with pytest.raises(FileNotFoundError, match="no checkpoint in"):
            checkpoints.restore_model()


def test_keeps_the_newest(tmp_path):
    save(tmp_path, 1, 2, 3)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 3]
        assert checkpoints.restore_model(2)[0] == 2
        with pytest.raises(FileNotFoundError, match=r"checkpoint of step 1 .* \[2, 3\]"):
            checkpoints.restore_model(1)


def test_keeps_the_best_beside_the_newest(tmp_path):
    save(tmp_path, 1, 2, 3, 4, 5, errors=[0.5, 0.3, float("nan"), 0.4, 0.6])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]


def test_a_run_that_goes_on_still_knows_which_was_the_best(tmp_path):
    for step, error in ((1, 0.5), (2, 0.3), (3, 0.4), (4, 0.6), (5, 0.7)):
        save(tmp_path, step, errors=[error])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]


def test_what_a_kill_left_of_a_deleted_one_goes_with_the_next(tmp_path):
    save(tmp_path, 1)
    shutil.rmtree(tmp_path / "1" / "metrics")
    save(tmp_path, 2, 3)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 3]


@pytest.mark.parametrize("item", ["state", "model"])
def test_one_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(tmp_path, item):
    save(tmp_path, 1, 2)
    damage(tmp_path, 2, item)
    with Checkpoints(tmp_path) as checkpoints:
        assert restored_step(checkpoints) == 1
        # The steps after it come again, and are saved again.
        checkpoints.save(2, model_at(2), state_at(2), CONFIG, error=0.5)
    with Checkpoints(tmp_path) as checkpoints:
        assert restored_step(checkpoints) == 2
        assert checkpoints.steps() == [1, 2] and (tmp_path / "2.damaged").is_dir()
    damage(tmp_path, 1, item)
    damage(tmp_path, 2, item)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(DamagedCheckpointError, match=r"every checkpoint .* steps \[2, 1\]"):
            checkpoints.restore_latest(model_at(0), state_at(0))
        if item == "model":
            with pytest.raises(DamagedCheckpointError, match=str(tmp_path / "2")):
                checkpoints.restore_model()


def test_a_checkpoint_that_was_damaged_twice_is_set_aside_twice(tmp_path):
    save(tmp_path, 1)
    for name in ("2.damaged", "2.damaged.1"):
        save(tmp_path, 2)
        damage(tmp_path, 2, "model")
        with Checkpoints(tmp_path) as checkpoints:
            assert restored_step(checkpoints) == 1
        assert (tmp_path / name).is_dir()


def test_a_file_that_is_back_at_the_second_try_is_read(tmp_path):
    """Network file systems have bad moments."""
    save(tmp_path, 1, 2)
    file, away = tmp_path / "2" / "digests", tmp_path / "away"
    file.rename(away)
    handler = logging.Handler()
    handler.emit = lambda record: away.rename(file) if away.exists() else None
    absl_logging.get_absl_logger().addHandler(handler)  # told before the second try
    try:
        with Checkpoints(tmp_path) as checkpoints:
            assert restored_step(checkpoints) == 2
    finally:
        absl_logging.get_absl_logger().removeHandler(handler)
    assert not away.exists() and not (tmp_path / "2.damaged").exists()


@pytest.mark.parametrize("error", [PermissionError("not yours"), MemoryError()])
def test_what_may_not_be_read_is_not_damaged(tmp_path, monkeypatch, error):
    save(tmp_path, 1, 2)

    def refuse(*args, **options):
        raise error

    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(ocp.StandardCheckpointHandler, "restore", refuse)
        with pytest.raises(type(error)):
            checkpoints.restore_latest(model_at(0), state_at(0))
        assert checkpoints.steps() == [1, 2]


def test_a_checkpoint_of_other_networks_is_not_called_damaged(tmp_path):
    save(tmp_path, 1)
    other = state_at(0) | {"opt_state": ()}
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(OtherNetworksError, match=r"checkpoint .*1 was saved by another .* as"):
            checkpoints.restore_latest(model_at(0), other)
        assert checkpoints.steps() == [1]


def test_read_only_neither_makes_nor_tidies(tmp_path):
    save(tmp_path, 1)
    half_written = tmp_path / "2.orbax-checkpoint-tmp"
    half_written.mkdir()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore_model()[0] == 1
    assert half_written.exists()
