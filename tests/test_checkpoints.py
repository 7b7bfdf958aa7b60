"""Checkpoints come back as they went in, and say when they do not."""

import functools
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from absl import logging

import uctgan_jax.checkpoints
from tests.conftest import assert_trees_equal
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.train_state import Optimizers, create_train_state
from uctgan_jax.weights import DamagedCheckpointError, OtherNetworksError, digest

CONFIG = {"image_size": 32, "widths": [8, 16]}


@pytest.fixture(scope="module")
def state(networks):
    adam = optax.adam(1e-3)
    optimizers = Optimizers(generator=adam, prior=adam, discriminator=adam)
    create = functools.partial(create_train_state, networks=networks, optimizers=optimizers)
    return jax.device_get(jax.jit(create)(jax.random.key(0)))


def at_step(state, step):
    ema = jax.tree.map(lambda x: x + np.float32(step), state.ema_params)
    return state.replace(step=np.int32(step), ema_params=ema)


def save(folder, state, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(at_step(state, step), CONFIG, error=1.0 / step)


def damage(folder, step, item):
    """Flips one bit of the largest file of an item: what Orbax itself does not notice."""
    files = [f for f in (Path(folder) / str(step) / item).rglob("*") if f.is_file()]
    file = max(files, key=lambda f: f.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_round_trip_is_exact(tmp_path, state):
    save(tmp_path, state, 3)
    with Checkpoints(tmp_path) as checkpoints:
        assert_trees_equal(checkpoints.restore_latest(state), at_step(state, 3))
        step, model, config, sha = checkpoints.restore_model()
    assert step == 3 and config == CONFIG
    expected = at_step(state, 3).ema_params | {
        "discriminator": state.discriminator_params,
        "spectral_norm": state.spectral_norm,
    }
    assert_trees_equal(model, expected)
    assert sha == digest(expected)


def test_a_checkpoint_that_cannot_be_saved_is_an_error(tmp_path, state):
    save(tmp_path, state, 2)
    with pytest.raises(ValueError, match=r"step 1 cannot be saved in .* \[2\]"):
        save(tmp_path, state, 1)


def test_only_reading_warns_of_nothing_and_silences_no_others(tmp_path, state, caplog):
    save(tmp_path, state, 1)
    caplog.clear()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.restore_model()
    logging.warning("of something else")
    assert [record.getMessage() for record in caplog.records] == ["of something else"]


def test_nothing_there(tmp_path, state):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(state) is None
        with pytest.raises(FileNotFoundError, match="no checkpoint in"):
            checkpoints.restore_model()


def test_keeps_the_newest(tmp_path, state):
    save(tmp_path, state, 1, 2, 3)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 3]
        with pytest.raises(FileNotFoundError, match=r"checkpoint of step 1 .* \[2, 3\]"):
            checkpoints.restore_model(1)


def test_keeps_the_best_beside_the_newest(tmp_path, state):
    with Checkpoints(tmp_path) as checkpoints:
        for step, error in ((1, 0.5), (2, 0.3), (3, float("nan")), (4, 0.4), (5, 0.6)):
            checkpoints.save(at_step(state, step), CONFIG, error)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]


def test_a_later_stage_is_better_whatever_its_errors(tmp_path, state):
    with Checkpoints(tmp_path) as checkpoints:
        for step, stage, error in ((1, 0, 0.1), (2, 1, 0.5), (3, 1, 0.4), (4, 1, 0.6), (5, 1, 0.7)):
            checkpoints.save(at_step(state, step), CONFIG, error, stage=stage)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [3, 4, 5]


def test_a_run_that_goes_on_still_knows_which_was_the_best(tmp_path, state):
    for step, error in ((1, 0.5), (2, 0.3), (3, 0.4), (4, 0.6), (5, 0.7)):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(at_step(state, step), CONFIG, error)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 4, 5]


def test_what_a_kill_left_of_a_deleted_one_goes_with_the_next(tmp_path, state):
    save(tmp_path, state, 1)
    shutil.rmtree(tmp_path / "1" / "metrics")
    save(tmp_path, state, 2, 3)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [2, 3]


@pytest.mark.parametrize("item", ["state", "model"])
def test_one_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(tmp_path, state, item):
    save(tmp_path, state, 1, 2)
    damage(tmp_path, 2, item)
    with Checkpoints(tmp_path) as checkpoints:
        assert_trees_equal(checkpoints.restore_latest(state), at_step(state, 1))
        # The steps after it come again, and are saved again.
        checkpoints.save(at_step(state, 2), CONFIG, error=0.5)
    with Checkpoints(tmp_path) as checkpoints:
        assert_trees_equal(checkpoints.restore_latest(state), at_step(state, 2))
        assert checkpoints.steps() == [1, 2] and (tmp_path / "2.damaged").is_dir()
    damage(tmp_path, 1, item)
    damage(tmp_path, 2, item)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(DamagedCheckpointError, match=r"every checkpoint .* steps \[2, 1\]"):
            checkpoints.restore_latest(state)
        if item == "model":
            with pytest.raises(DamagedCheckpointError, match=str(tmp_path / "2")):
                checkpoints.restore_model()


@pytest.mark.parametrize(
    ("errors", "outcome"),
    [
        ([OSError("the network slept")], 2),  # once: it is read again
        ([OSError("gone"), OSError("gone")], 1),
        ([PermissionError("not yours")], PermissionError),
        ([MemoryError()], MemoryError),
    ],
)
def test_what_cannot_be_read_for_another_reason_is_not_damaged(
    tmp_path, state, monkeypatch, errors, outcome
):
    save(tmp_path, state, 1, 2)
    read = uctgan_jax.checkpoints._read

    def read_badly(*args):
        if errors:
            raise errors.pop(0)
        return read(*args)

    monkeypatch.setattr(uctgan_jax.checkpoints, "_read", read_badly)
    monkeypatch.setattr(uctgan_jax.checkpoints, "_SECOND_TRY_SECONDS", 0.0)
    with Checkpoints(tmp_path) as checkpoints:
        if isinstance(outcome, int):
            assert checkpoints.restore_latest(state).step == outcome
        else:
            with pytest.raises(outcome):
                checkpoints.restore_latest(state)
    assert not errors
    assert (tmp_path / "2.damaged").exists() == (outcome == 1)


def test_a_checkpoint_of_other_networks_is_not_called_damaged(tmp_path, state):
    save(tmp_path, state, 1)
    other = state.replace(prior_opt_state=optax.sgd(1.0).init(state.prior_params))
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(OtherNetworksError, match=r"checkpoint .*1 was saved by another .* as"):
            checkpoints.restore_latest(other)


def test_read_only_neither_makes_nor_tidies(tmp_path, state):
    save(tmp_path, state, 1)
    half_written = tmp_path / "2.orbax-checkpoint-tmp"
    half_written.mkdir()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore_model()[0] == 1
    assert half_written.exists()
