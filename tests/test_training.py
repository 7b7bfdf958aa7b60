"""The training loop: what it leaves behind, how it resumes, how it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import jax
import numpy as np
import optax
import pytest

from tests.conftest import assert_trees_equal, records, run_config
from uctgan_jax import Inpainter, training
from uctgan_jax.config import ConfigMismatchError
from uctgan_jax.configs import paper
from uctgan_jax.fit import NonFiniteError
from uctgan_jax.metrics_log import json_numbers

ROOT = Path(training.__file__).parents[1]


def test_leaves_logs_samples_config_and_checkpoints(straight):
    workdir, state = straight
    assert int(state.step) == 6
    logged = records(workdir)
    assert [r["step"] for r in logged] == [1, 2, 3, 4, 5, 6]
    for record in logged:
        assert {"loss/generator", "loss/discriminator", "loss/kl"} <= set(record)
        assert record["images_per_sec"] > 0
        assert 0 <= record["data_wait_fraction"] <= 1
    assert ["held_out/reconstruction_hole" in r for r in logged] == [False, False, True] * 2
    assert 0 < logged[-1]["held_out/reconstruction_hole"] < 2
    sheet = cv2.imread(str(workdir / "samples" / "00000006.png"))
    assert sheet.shape[0] > 400 and sheet.std() > 10
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 8
    assert "generator/Conv_0/kernel" in (workdir / "parameters.txt").read_text()
    assert list(workdir.glob("events.out.tfevents*"))
    assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"3", "6"}


def test_three_steps_and_three_more_equal_six(straight, tmp_path, picture_folder, capfd):
    _, expected = straight
    training.train(run_config(picture_folder, num_train_steps=3), tmp_path)
    # What a killed run may have logged beyond its checkpoint is taken back.
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss/kl": 1}\n{"step": 5, "los')
    resumed = training.train(run_config(picture_folder), tmp_path)
    assert_trees_equal(resumed, expected)
    assert [r["step"] for r in records(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert f"resuming from step 3 in {tmp_path}" in capfd.readouterr().out


def test_the_reconstruction_stage_is_without_d_and_instances(tmp_path, picture_folder):
    # The first run ends with the stage; the second goes on with all players.
    for num_train_steps in (3, 6):
        config = run_config(picture_folder, reconstruction_steps=3, num_train_steps=num_train_steps)
        state = training.train(config, tmp_path)
    assert int(state.step) == 6
    counts = optax.tree.get_all_with_path(state.discriminator_opt_state, "count")
    assert {int(count) for _, count in counts} == {3}
    parts = [
        {"loss/discriminator", "loss/adversarial", "loss/manifold_l1", "loss/r1"} & set(r)
        for r in records(tmp_path)
    ]
    assert [len(part) for part in parts] == [0, 0, 0, 4, 4, 4]


@pytest.mark.slow
def test_a_model_grows(straight, tmp_path, picture_folder):
    workdir, small = straight
    config = run_config(picture_folder, num_train_steps=1, image_size=64)
    config.model.patch_size, config.model.discriminator_patch_size = 8, 16
    config.init_from = str(workdir)
    config.optimizer.generator_learning_rate = 0.0
    # What a run leaves that was killed while it saved for the first time is no checkpoint.
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"seed": 1}')
    grown = training.train(config, tmp_path)
    for params in (grown.generator_params, grown.ema_params):
        kernel = small.ema_params["projection"]["Conv_0"]["kernel"]
        pixels = params["projection"]["Conv_0"]["kernel"].reshape(3, 3, 4, 2, 4, 2, 3, -1)
        np.testing.assert_allclose(pixels.sum(axis=(3, 5)).reshape(kernel.shape), kernel, rtol=1e-6)
        for part, layer in (("projection", "level_0"), ("encoder", "level_1")):
            assert_trees_equal(params[part][layer], small.ema_params[part][layer])


def test_a_finished_run_is_left_as_it_is(straight, picture_folder, capsys):
    workdir, expected = straight
    before = (workdir / "metrics.jsonl").read_text()
    config = run_config(picture_folder, compute_dtype="bfloat16")  # to try after a NaN
    config.optimizer.generator_learning_rate = 1e-4
    for again in (config, run_config(picture_folder)):
        assert_trees_equal(training.train(again, workdir), expected)
        assert "all 6 steps are done" in capsys.readouterr().out
    assert (workdir / "metrics.jsonl").read_text() == before


def test_the_inpainter_loads_what_training_saved(straight):
    workdir, state = straight
    for path in (workdir, workdir / "checkpoints"):
        inpainter = Inpainter.load(path)
        assert inpainter.step == 6 and inpainter.image_size == 32
        expected = state.ema_params | {"discriminator": state.discriminator_params}
        assert_trees_equal(jax.device_get(inpainter.params), expected)


def test_another_config_in_the_same_workdir_is_refused(straight, picture_folder):
    workdir, _ = straight
    config = run_config(picture_folder, batch_size=16)
    config.loss.kl = 0.5
    with pytest.raises(ConfigMismatchError) as error:
        training.train(config, workdir)
    assert "batch_size: 8 there, 16 now" in str(error.value)
    assert "loss.kl: 0.0003 there, 0.5 now" in str(error.value)
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 8


def test_checkpoints_of_a_run_without_its_config_are_not_gone_on_with(picture_folder, tmp_path):
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    with pytest.raises(ConfigMismatchError, match=r"steps \[2\], but no config.json"):
        training.train(run_config(picture_folder), tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(batch_size=30), ValueError, r"batch_size \(30\) .* devices \(8\)"),
        (
            dict(gradient_accumulation=2),
            ValueError,
            r"batch_size \(8\) must be .* devices \(8\) times gradient_accumulation \(2\)",
        ),
        (dict(parallel="threads"), ValueError, r"parallel \('threads'\) must be one of"),
        (dict(init_from="/no/such"), FileNotFoundError, "/no/such is neither"),
        (
            dict(init_from="avatars32"),
            ValueError,
            r"init_from \(avatars32\) .* model.code_dim: 32 there, 4 here",
        ),
        (
            dict(
                init_from="avatars32",
                image_size=64,
                model=dict(patch_size=8, discriminator_patch_size=16),
            ),
            ValueError,
            r"init_from \(avatars32\) .* model.code_dim: 32 grown, 4 here",
        ),
        (dict(data=dict(source="nosuchset")), ValueError, "'nosuchset'"),
        (dict(data=dict(source="folder:/no/such")), FileNotFoundError, "/no/such"),
        # Before the data, which may take minutes to draw.
        (dict(mask=dict(kind="hexagon"), data=dict(source="nosuchset")), ValueError, "'hexagon'"),
        (dict(mask=dict(kind="folder:")), ValueError, "'folder:' must name a folder"),
        (dict(mask=dict(kind="paired:/no/such")), FileNotFoundError, "Mask folder '/no/such'"),
        (dict(model=dict(code_dim=0)), ValueError, r"code_dim \(0\) must be 1 or more"),
    ],
)
def test_unusable_configs_are_refused_before_anything_compiles(
    tmp_path, picture_folder, changes, error, message, compilations
):
    with pytest.raises(error, match=message):
        training.train(run_config(picture_folder, **changes), tmp_path)
    assert not compilations
    # Nothing stands in the way of the mended config.
    assert not (tmp_path / "config.json").exists()


def test_unwritable_workdir_is_refused(tmp_path, picture_folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"{tmp_path / 'file'} cannot be written"):
        training.train(run_config(picture_folder), tmp_path / "file")


@pytest.mark.slow
def test_a_long_run_of_nonfinite_steps_stops_training(tmp_path, picture_folder):
    config = run_config(picture_folder, max_nonfinite_steps=3)
    config.optimizer.generator_learning_rate = 1e38
    with pytest.raises(
        NonFiniteError,
        match=r"step 4: the last 3 steps were not finite \(.*loss/reconstruction.*\) .* lower",
    ):
        training.train(config, tmp_path)
    # Not of step 3, whose parameters can't be gone on with.
    assert not list((tmp_path / "checkpoints").glob("[0-9]*"))


def start(workdir, picture_folder, *flags):
    """Trains in a process of its own, on one device, with room to be interrupted."""
    script = (
        "import sys; from tests.conftest import run_config; from uctgan_jax import training;"
        " config = run_config(sys.argv[2]); config.num_train_steps = 100_000;"
        " config.checkpoint_every_steps = 5; config.sample_every_steps = 100_000;"
        " training.train(config, sys.argv[1])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(workdir), str(picture_folder)],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_step(workdir, process, step):
    """Waits for as long as the process lives."""
    path = workdir / "metrics.jsonl"
    while not (path.exists() and path.read_text().count("\n") >= step):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_and_told_to_stop(tmp_path, picture_folder):
    """SIGKILL loses the steps since the last checkpoint; SIGTERM loses none and exits with 0."""
    process = start(tmp_path, picture_folder)
    wait_for_step(tmp_path, process, 12)
    with pytest.raises(ValueError, match=f"another run is going on in {tmp_path}"):
        training.train(run_config(picture_folder, num_train_steps=100_000), tmp_path)
    process.kill()
    process.wait()
    killed_at = records(tmp_path)[-1]["step"]

    process = start(tmp_path, picture_folder)
    wait_for_step(tmp_path, process, killed_at + 3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    resumed_from = int(output.split("resuming from step ")[1].split()[0])
    # The save of the last multiple of 5 may have been under way.
    assert killed_at - 10 <= resumed_from <= killed_at and resumed_from % 5 == 0
    steps = [record["step"] for record in records(tmp_path)]
    assert steps == list(range(1, steps[-1] + 1))
    assert (tmp_path / "checkpoints" / str(steps[-1])).is_dir()
    # There was no time to draw.
    assert "steps are done" not in output and not list((tmp_path / "samples").iterdir())


def test_not_a_number_is_written_as_json():
    text = json.dumps(json_numbers({"a": float("nan"), "b": np.float64(1.5)}))
    assert json.loads(text) == {"a": "nan", "b": 1.5}


@pytest.mark.slow
def test_ctrl_c_saves_and_a_second_one_ends_at_once(tmp_path, picture_folder):
    process = start(tmp_path, picture_folder)
    wait_for_step(tmp_path, process, 2)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    last = records(tmp_path)[-1]["step"]
    assert f"told to stop: saving step {last}" in output
    assert (tmp_path / "checkpoints" / str(last)).is_dir()

    process = start(tmp_path, picture_folder)  # and while it still begins
    for line in process.stdout:
        if "resuming" in line:
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode in (0, 130), output
    assert "Traceback" not in output


def test_the_plain_method_learns_and_carries_nothing_it_does_not_use(tmp_path, picture_folder):
    """configs/paper.py with the smallest networks, on a handful of pictures."""
    config = paper.get_config()
    small = run_config(picture_folder)
    for name in ("image_size", "batch_size", "model"):
        config[name] = small[name]
    config.data.update(small.data)
    config.num_train_steps, config.log_every_steps = 60, 10
    config.optimizer.generator_learning_rate = 2e-3
    state = training.train(config, tmp_path)
    logged = records(tmp_path)
    for name in ("reconstruction", "condition_l1", "generator"):
        assert logged[-1][f"loss/{name}"] < 0.8 * logged[0][f"loss/{name}"], name
    assert {name for name in logged[-1] if name.startswith("loss/")} == {
        f"loss/{term}"
        for term in (
            "reconstruction condition_l1 manifold_l1 kl adversarial r1 r2 generator discriminator"
        ).split()
    }
    # Parameters, Adam's two moments and one average.
    params = [state.generator_params, state.discriminator_params]
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) for tree in (state, params)]
    assert sizes[0] <= 4.2 * sizes[1]
