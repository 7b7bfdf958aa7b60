"""The training loop: what it leaves behind, how it resumes, how it refuses."""

import importlib
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

from configs import default
from tests.conftest import assert_trees_equal, records, run_config
from uctgan_jax import Inpainter, training
from uctgan_jax.growth import grown_sizes
from uctgan_jax.metrics_log import json_numbers
from uctgan_jax.nets import build_networks

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


def test_the_first_steps_are_for_reconstructions_alone(tmp_path, picture_folder):
    config = run_config(picture_folder, reconstruction_steps=3)
    state = training.train(config, tmp_path)
    assert int(state.step) == 6
    counts = optax.tree.get_all_with_path(state.discriminator_opt_state, "count")
    assert {int(count) for _, count in counts} == {3}
    parts = [
        {"loss/discriminator", "loss/adversarial", "loss/manifold", "loss/prior"} & set(r)
        for r in records(tmp_path)
    ]
    assert [len(part) for part in parts] == [0, 0, 0, 4, 4, 4]


def test_the_prior_waits_for_the_game(tmp_path, picture_folder):
    config = run_config(picture_folder, num_train_steps=2, reconstruction_steps=2)
    state = training.train(config, tmp_path)
    create = build_networks(image_size=32, **config.model).init_generator
    fresh = jax.jit(create)(jax.random.key(config.seed))
    for params in (state.prior_params, state.ema_params["prior"], state.ema_params["guide"]):
        assert jax.tree.structure(params) == jax.tree.structure(fresh["prior"])
        assert not np.any(params["velocity"]["kernel"])  # it carries codes nowhere
    counts = optax.tree.get_all_with_path(state.prior_opt_state, "count")
    assert {int(count) for _, count in counts} == {0}


def test_a_model_grows_and_what_is_frozen_stands_still(straight, tmp_path, picture_folder):
    workdir, small = straight
    config = run_config(picture_folder, num_train_steps=2, image_size=64)
    config.model.patch_size = 8
    config.model.prior_condition_width = 300
    config.init_from, config.frozen = str(workdir), ("projection", "encoder")
    # What a run leaves that was killed while it saved for the first time is no checkpoint.
    (tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp").mkdir(parents=True)
    (tmp_path / "config.json").write_text('{"seed": 1}')
    grown = training.train(config, tmp_path)
    begun = small.ema_params
    assert grown.ema_params["prior"]["of_condition_0"]["kernel"].shape[-1] == 300
    for params in (grown.generator_params, grown.ema_params):
        kernel = begun["projection"]["Conv_0"]["kernel"]
        pixels = params["projection"]["Conv_0"]["kernel"].reshape(3, 3, 4, 2, 4, 2, 3, -1)
        np.testing.assert_allclose(pixels.sum(axis=(3, 5)).reshape(kernel.shape), kernel, rtol=1e-6)
        for part, layer in (("projection", "level_0"), ("encoder", "level_1")):
            assert_trees_equal(params[part][layer], begun[part][layer])
    moved = [
        not np.array_equal(params["level_1_block_0"][conv]["kernel"], old[conv]["kernel"])
        for old in [begun["generator"]["level_1_block_0"]]
        for params in (grown.generator_params["generator"], grown.ema_params["generator"])
        for conv in ("Conv_0", "Conv_1")
    ]
    assert all(moved)
    names = {
        key.key
        for path, _ in jax.tree_util.tree_leaves_with_path(grown.generator_opt_state)
        for key in path
        if isinstance(key, jax.tree_util.DictKey)
    }
    assert "generator" in names and not {"projection", "encoder"} & names


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
        expected = state.ema_params | {
            "discriminator": state.discriminator_params,
            "spectral_norm": state.spectral_norm,
        }
        assert_trees_equal(jax.device_get(inpainter.params), expected)


def test_another_config_in_the_same_workdir_is_refused(straight, picture_folder):
    workdir, _ = straight
    config = run_config(picture_folder, batch_size=16)
    config.loss.kl = 0.5
    with pytest.raises(training.ConfigMismatchError) as error:
        training.train(config, workdir)
    assert "batch_size: 8 there, 16 now" in str(error.value)
    assert "loss.kl: 0.002 there, 0.5 now" in str(error.value)
    for shorter in (dict(num_train_steps=5), dict(num_train_steps=8, prior_steps=3)):
        with pytest.raises(training.ConfigMismatchError, match="has gone on to step 6"):
            training.train(run_config(picture_folder, **shorter), workdir)
    assert json.loads((workdir / "config.json").read_text())["batch_size"] == 8


def test_checkpoints_of_a_run_without_its_config_are_not_gone_on_with(picture_folder, tmp_path):
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    with pytest.raises(training.ConfigMismatchError, match=r"steps \[2\], but no config.json"):
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
        (dict(image_size=33), ValueError, r"image_size \(33\) must be a power of two"),
        (dict(num_train_steps=0), ValueError, r"num_train_steps \(0\) must be 1 or more"),
        (dict(seed=-1), ValueError, r"seed \(-1\) must be from 0 to 4294967295"),
        (dict(ema_decay=1.0), ValueError, r"ema_decay \(1.0\) must be in"),
        (
            dict(optimizer=dict(decay_share=1.5)),
            ValueError,
            r"optimizer.decay_share \(1.5\) must be in",
        ),
        (dict(prior_steps=7), ValueError, r"prior_steps \(7\) must be from 0 to num_train_steps"),
        (
            dict(prior_steps=2, loss=dict(prior=0.0)),
            ValueError,
            r"prior_steps \(2\) must be 0 when loss.prior",
        ),
        (
            dict(prior_steps=2, prior_batch_size=16, prior_examples=15),
            ValueError,
            r"prior_examples \(15\) must be prior_batch_size \(16\) or more",
        ),
        (
            dict(
                prior_steps=2, loss=dict.fromkeys(default.get_config().loss, 0.0) | {"prior": 1.0}
            ),
            ValueError,
            r"nothing to train before it is alone, so prior_steps \(2\) must be",
        ),
        (
            dict(prior_steps=2, guide_steps=3),
            ValueError,
            r"guide_steps \(3\) must be from 0 to prior_steps \(2\)",
        ),
        (
            dict(prior_steps=2, reconstruction_steps=4),
            ValueError,
            r"guide_steps \(0\) must be 1 or more, or model.guidance \(2.0\) be 1",
        ),
        (dict(init_from="/no/such"), FileNotFoundError, "/no/such is neither"),
        (
            dict(init_from="avatars32"),
            ValueError,
            r"init_from \(avatars32\) .* model.code_dim: 32 there, 4 here",
        ),
        (
            dict(init_from="avatars32", model=dict(prior_condition_width=128)),
            ValueError,
            r"init_from \(avatars32\) .* model.prior_condition_width: 512 there, 128 here",
        ),
        (
            dict(init_from="avatars32", image_size=64, model=dict(patch_size=8)),
            ValueError,
            r"init_from \(avatars32\) .* model.code_dim: 32 grown, 4 here",
        ),
        (dict(frozen=("generator",)), ValueError, r"frozen \('generator'\) must name some of"),
        (dict(frozen=("encoder",)), ValueError, r"frozen \('encoder'\) needs init_from"),
        (dict(reconstruction_steps=-1), ValueError, r"reconstruction_steps \(-1\) must be 0 or"),
        (
            dict(optimizer=dict(prior_learning_rate=-1e-3)),
            ValueError,
            r"optimizer.prior_learning_rate \(-0.001\) must be 0 or more",
        ),
        (dict(optimizer=dict(beta2=1.0)), ValueError, r"optimizer.beta2 \(1.0\) must be in \[0, 1"),
        (dict(data=dict(num_threads=-1)), ValueError, r"data.num_threads \(-1\) must be 0 or more"),
        (dict(data=dict(max_corrupt=-1)), ValueError, r"data.max_corrupt \(-1\) must be 0 or more"),
        (dict(data=dict(cache_gib=-1.0)), ValueError, r"data.cache_gib \(-1.0\) must be 0"),
        (dict(data=dict(source="nosuchset")), ValueError, "'nosuchset'"),
        (dict(data=dict(source="folder:/no/such")), FileNotFoundError, "/no/such"),
        # Before the data, which may take minutes to draw.
        (dict(mask=dict(kind="hexagon"), data=dict(source="nosuchset")), ValueError, "'hexagon'"),
        (dict(mask=dict(kind="folder:")), ValueError, "'folder:' must name a folder"),
        (dict(mask=dict(kind="paired:/no/such")), FileNotFoundError, "Mask folder '/no/such'"),
        (dict(model=dict(code_dim=0)), ValueError, r"code_dim \(0\) must be 1 or more"),
        (dict(loss=dict(kl=-1.0)), ValueError, r"loss.kl \(-1.0\)"),
    ],
)
def test_unusable_configs_are_refused_before_anything_compiles(
    tmp_path, picture_folder, changes, error, message, monkeypatch
):
    def compile_nothing(*_, **__):
        raise AssertionError("something was compiled")

    monkeypatch.setattr(jax, "jit", compile_nothing)
    with pytest.raises(error, match=message):
        training.train(run_config(picture_folder, **changes), tmp_path)
    # Nothing stands in the way of the mended config.
    assert not (tmp_path / "config.json").exists()


def test_all_weights_zero_is_refused(tmp_path, picture_folder):
    config = run_config(picture_folder)
    for name in config.loss:
        config.loss[name] = 0.0
    with pytest.raises(ValueError, match="nothing to train"):
        training.train(config, tmp_path)
    config.loss.kl, config.reconstruction_steps = 0.01, 2
    with pytest.raises(ValueError, match=r"reconstruction_steps \(2\) must be 0 when"):
        training.train(config, tmp_path)


def test_unwritable_workdir_is_refused(tmp_path, picture_folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"{tmp_path / 'file'} cannot be written"):
        training.train(run_config(picture_folder), tmp_path / "file")


def test_a_long_run_of_nonfinite_steps_stops_training(tmp_path, picture_folder):
    config = run_config(picture_folder, max_nonfinite_steps=3)
    config.optimizer.generator_learning_rate = 1e38
    with pytest.raises(
        training.NonFiniteError,
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


def wait_for_step(workdir, process, step, timeout=240):
    path = workdir / "metrics.jsonl"
    deadline = time.monotonic() + timeout
    while not (path.exists() and path.read_text().count("\n") >= step):
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "training did not get there in time"
        time.sleep(0.05)


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
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    resumed_from = int(output.split("resuming from step ")[1].split()[0])
    # The save of the last multiple of 5 may have been under way.
    assert killed_at - 10 <= resumed_from <= killed_at and resumed_from % 5 == 0
    steps = [record["step"] for record in records(tmp_path)]
    assert steps == list(range(1, steps[-1] + 1))
    assert (tmp_path / "checkpoints" / str(steps[-1])).is_dir()
    # There was no time to draw.
    assert "steps are done" not in output and not list((tmp_path / "samples").iterdir())


CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "ablation"])
def test_every_config_is_sound_and_has_every_field(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    training.check_config(config)
    differences = training.config_differences(
        training.config_dict(default.get_config(config.image_size)), training.config_dict(config)
    )
    assert not [path for path, values in differences.items() if None in values]
    build_networks(image_size=config.image_size, **config.model)


@pytest.mark.parametrize(
    ("ablation", "path"),
    [
        ("no_attention", "model.attention_resolution"),
        ("no_manifold", "loss.manifold"),
        ("no_instance", "instance_path"),
        ("no_reconstruction", "loss.reconstruction"),
        ("no_kl", "loss.kl"),
    ],
)
def test_ablations_change_their_one_thing(ablation, path):
    from configs import ablation as ablations
    from configs import avatars32

    differences = training.config_differences(
        training.config_dict(avatars32.get_config()),
        training.config_dict(ablations.get_config(ablation)),
    )
    assert path in differences and differences[path][1] == 0
    # Without its loss there is nothing that steps on reconstructions alone could learn.
    assert all(name.startswith((path, "reconstruction_steps")) for name in differences)


def test_unknown_variants_are_refused():
    from configs import ablation, avatars_gpu, folder

    with pytest.raises(ValueError, match=r"ablation \('no_fun'\) must be"):
        ablation.get_config("no_fun")
    with pytest.raises(ValueError, match=r"image size \('48'\) must be"):
        avatars_gpu.get_config("48")
    with pytest.raises(ValueError, match=r"image size \(100\) must be one of 32, 64, 128, 256"):
        folder.get_config("100")


def test_on_a_gpu_the_networks_of_32_px_are_those_of_two_cores():
    from configs import avatars32, avatars_gpu

    config = avatars_gpu.get_config("32")
    training.check_config(config)
    assert config.model == avatars32.get_config().model


def test_on_a_gpu_a_model_of_64_px_can_grow_to_128():
    from configs import avatars_gpu

    small, large = (avatars_gpu.get_config(size) for size in ("64", "128"))
    training.check_config(large)
    grown = grown_sizes(small.to_dict(), large.model.generator_widths)
    assert grown == {"image_size": 128, "model": large.model.to_dict()}
    build_networks(image_size=128, **large.model)


def test_not_a_number_is_written_as_json():
    text = json.dumps(json_numbers({"a": float("nan"), "b": np.float64(1.5)}))
    assert json.loads(text) == {"a": "nan", "b": 1.5}
