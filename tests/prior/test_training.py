"""Training of a learned prior on a finished model."""

import functools
import json

import jax
import numpy as np
import pytest

from tests.conftest import TINY_PRIOR, assert_trees_equal, model_params, records, run_config
from uctgan_jax import Inpainter
from uctgan_jax.config import ConfigMismatchError
from uctgan_jax.configs import prior as prior_config
from uctgan_jax.optimizers import make_optimizer
from uctgan_jax.prior import build_prior
from uctgan_jax.prior.training import PriorState, PriorTrainee, prior_step, train_prior

CODE_DIM = 4


def config_of(**changes):
    """A prior's run that takes seconds, but for some changes."""
    config = prior_config.get_config()
    config.batch_size = 8
    config.num_train_steps = 6
    config.num_examples = 24
    config.prior = TINY_PRIOR
    config.optimizer.decay_share = 0.0  # or runs of more steps would begin with other rates
    config.data.num_threads = 2
    config.log_every_steps = 1
    config.checkpoint_every_steps = 3
    config.sample_every_steps = 6
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def latents():
    """Codes that follow from their conditions."""
    rng = np.random.default_rng(0)
    condition = rng.standard_normal((8, 16)).astype(np.float16)
    return {
        "mean": 2 * condition[:, :CODE_DIM].astype(np.float32),
        "log_variance": np.full((8, CODE_DIM), -4.0, np.float32),
        "condition": condition,
        "index": np.arange(8, dtype=np.uint32),
    }


@pytest.fixture(scope="module")
def step_and_state(latents):
    prior = build_prior(TINY_PRIOR | {"width": 32}, code_dim=CODE_DIM)
    optimizer = make_optimizer("muon", 0.02, beta1=0.9, beta2=0.99)
    params = jax.jit(prior.init)(jax.random.key(0), latents["condition"])
    state = PriorState(
        step=np.int32(0),
        params=params,
        opt_state=optimizer.init(params),
        ema_params=params,
        nonfinite_steps=np.int32(0),
    )
    trainee = PriorTrainee(prior=prior, optimizer=optimizer, seed=0, ema_decay=0.9)
    return jax.jit(functools.partial(prior_step, trainee)), jax.device_get(state)


def test_the_loss_falls(step_and_state, latents):
    step, state = step_and_state
    losses = []
    for number in range(60):
        batch = latents | {"index": latents["index"] + np.uint32(8 * number)}
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss/prior"]))
    assert set(metrics) == {"loss/prior", "gradient_norm", "nonfinite"}
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])
    assert (state.step, state.nonfinite_steps) == (60, 0)


def test_the_average_ramps_up(step_and_state, latents):
    """From a decay of (1 + 0) / (10 + 0) to that of the config, 0.9."""
    step, before = step_and_state
    for number, decay in ((0, 0.1), (2, 0.25), (1000, 0.9)):
        after, _ = step(before.replace(step=np.int32(number)), latents)
        expected = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new,
            before.ema_params,
            jax.device_get(after.params),
        )
        assert_trees_equal(after.ema_params, expected, rtol=1e-4, atol=1e-6)


def test_noise_follows_the_example_not_its_place(step_and_state, latents):
    step, state = step_and_state
    order = np.random.default_rng(0).permutation(8)
    _, metrics = step(state, latents)
    _, shuffled = step(state, {name: rows[order] for name, rows in latents.items()})
    _, others = step(state, latents | {"index": latents["index"] + np.uint32(8)})
    np.testing.assert_allclose(shuffled["loss/prior"], metrics["loss/prior"], rtol=1e-5)
    assert abs(others["loss/prior"] - metrics["loss/prior"]) > 1e-4


@pytest.fixture(scope="module")
def model(networks, picture_folder, tmp_path_factory):
    """A model whose prior is N(0, I), as a folder of weights."""
    folder = tmp_path_factory.mktemp("model")
    params = jax.device_get(model_params(networks, seed=0))
    Inpainter(run_config(picture_folder), params, step=7, digest="").save(folder)
    return folder


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    """Six steps in one go: the workdir and the final state."""
    workdir = tmp_path_factory.mktemp("prior") / "run"
    return workdir, train_prior(config_of(), model, workdir)


def test_leaves_logs_samples_config_and_checkpoints(finished):
    workdir, state = finished
    assert int(state.step) == 6
    logged = records(workdir)
    assert [record["step"] for record in logged] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(record["loss/prior"]) for record in logged)
    assert ["held_out/prior" in record for record in logged] == [False, False, True] * 2
    assert np.isfinite(logged[-1]["held_out/prior"])
    assert [path.name for path in (workdir / "samples").iterdir()] == ["00000006.png"]
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"3", "6"}
    config = json.loads((workdir / "config.json").read_text())
    assert config["prior"] == TINY_PRIOR and config["model"]["code_dim"] == CODE_DIM


def test_the_whole_model_is_saved_and_completes(finished, model, networks, batch):
    workdir, state = finished
    learned, without = Inpainter.load(workdir), Inpainter.load(model)
    assert learned.step == 6
    codes = np.random.default_rng(0).standard_normal((8, 2, CODE_DIM), np.float32)
    pictures = learned.complete_with(batch["image"], batch["mask"], codes)
    known = np.broadcast_to(batch["mask"][:, None] == 0, pictures.shape)
    originals = np.broadcast_to(batch["image"][:, None], pictures.shape)
    np.testing.assert_array_equal(pictures[known], originals[known])
    # E1, E2, G and D are those of the model; the prior is the average of those trained here.
    np.testing.assert_array_equal(
        learned.reconstruct(batch["image"], batch["mask"]),
        without.reconstruct(batch["image"], batch["mask"]),
    )
    condition = np.random.default_rng(1).standard_normal((8, 384), np.float32)
    moved = learned.prior.sample(state.ema_params, codes, condition)
    assert np.abs(moved - codes).max() > 1e-3
    assert not np.array_equal(pictures, without.complete_with(batch["image"], batch["mask"], codes))


def test_three_steps_and_three_more_equal_six(finished, model, tmp_path, capfd):
    _, expected = finished
    train_prior(config_of(num_train_steps=3), model, tmp_path)
    resumed = train_prior(config_of(), model, tmp_path)
    assert_trees_equal(resumed, expected)
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert f"resuming from step 3 in {tmp_path}" in capfd.readouterr().out


def test_another_model_or_config_in_the_same_workdir_is_refused(
    finished, model, networks, picture_folder, tmp_path
):
    workdir, _ = finished
    params = jax.device_get(model_params(networks, seed=1))
    Inpainter(run_config(picture_folder), params, step=7, digest="").save(tmp_path)
    with pytest.raises(ConfigMismatchError, match="model_digest"):
        train_prior(config_of(num_train_steps=8), tmp_path, workdir)
    with pytest.raises(ConfigMismatchError, match="whitening: True there, False now"):
        train_prior(config_of(whitening=False), model, workdir)


def test_a_learned_prior_is_replaced_here_without_whitening(finished, tmp_path, picture_folder):
    """The model is the run of another prior.

    The number of steps alone makes the run shorter: rates fall over a share of it.
    """
    model, old = finished
    config = config_of(whitening=False, mask_kind="box", num_train_steps=3)
    config.optimizer.decay_share = prior_config.get_config().optimizer.decay_share
    config.prior.width = 16
    state = train_prior(config, model, tmp_path)
    assert int(state.step) == 3
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3]
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["prior"]["width"] == 16 and saved["mask"]["kind"] == "box"
    assert saved["model_digest"] == Inpainter.load(model).digest
    loaded = Inpainter.load(tmp_path)
    assert loaded.step == 3
    assert state.params["code_in"]["kernel"].shape == (CODE_DIM, 16)
    assert old.params["code_in"]["kernel"].shape == (CODE_DIM, 8)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("num_examples", 7, r"num_examples \(7\) must be batch_size \(8\) or more"),
        (
            "batch_size",
            12,
            r"batch_size \(12\) must be a positive multiple of the number of devices",
        ),
        ("num_train_steps", 0, r"num_train_steps \(0\) must be 1 or more"),
        ("prior.width", 0, r"prior.width \(0\) must be 1 or more"),
        ("optimizer.learning_rate", -0.1, r"optimizer.learning_rate \(-0.1\) must be in \[0"),
        ("optimizer.name", "sgd", r"optimizer.name \('sgd'\) must be one of adam, muon"),
    ],
)
def test_values_that_make_no_sense_are_refused_before_anything_is_written(
    model, tmp_path, field, value, message
):
    config = config_of()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        train_prior(config, model, tmp_path)
    assert not list(tmp_path.iterdir())
