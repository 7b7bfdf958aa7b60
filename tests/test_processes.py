"""Several processes: the numbers of one, and a run that survives the death of one of them."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.conftest import TINY_MODEL, assert_trees_equal, model_params, records, run_config
from tests.prior.test_training import config_of
from tests.test_checkpoints import damage
from uctgan_jax import Inpainter, training
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.prior.training import train_prior

ROOT = Path(training.__file__).parents[1]
STARTED: list[subprocess.Popen] = []
# E1, E2 and G of one level, without D: what is tested here does not depend on it.
SMALL = {
    "model": TINY_MODEL
    | {"encoder_widths": (8,), "generator_widths": (8,), "attention_resolution": 0},
    "loss": {"adversarial": 0.0},
}
# A process that has used less than half a second of CPU time for so long stands still.
PATIENCE = 180

# argv: number of processes, this one, port of the first, fields of the config as JSON, workdir,
# pictures. Among the fields may be "prior_of", to train that model's prior, and "blind", a process
# that cannot read checkpoints.
SCRIPT = """
import json
import sys
count, index, port, fields, workdir, pictures = sys.argv[1:]
from uctgan_jax import compilation_cache, parallel, training
compilation_cache.enable()
parallel.initialize_processes(f"127.0.0.1:{port}", int(count), int(index))
from tests.conftest import run_config
fields = json.loads(fields)
if fields.pop("blind", None) == int(index):
    import orbax.checkpoint as ocp
    def read_nothing(*args, **options):
        raise OSError("the disk is away")
    ocp.StandardCheckpointHandler.restore = read_nothing
if "prior_of" in fields:
    from tests.prior.test_training import config_of
    from uctgan_jax.prior.training import train_prior
    train_prior(config_of(), fields["prior_of"], workdir)
else:
    training.train(run_config(pictures, **fields), workdir)
"""


def start(workdir, pictures, *, processes=2, devices=2, **fields):
    """Starts `processes` processes with `devices` devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = re.sub(r"(device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"])
    environment = os.environ | {"XLA_FLAGS": flags}
    arguments = [str(port), json.dumps(SMALL | fields), str(workdir), str(pictures)]
    started = []
    for index in range(processes):
        output = tempfile.TemporaryFile("w+")
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(processes), str(index), *arguments],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        process.output = output
        started.append(process)
    STARTED.extend(started)
    return started


@pytest.fixture(autouse=True)
def no_process_is_left():
    """A test that fails leaves no endless run behind."""
    yield
    for process in STARTED:
        process.kill()
        process.wait()
        process.output.close()
    STARTED.clear()


def output_of(process):
    process.output.seek(0)
    return process.output.read()


def cpu_seconds(process):
    """CPU time that a process has used; none once it has ended."""
    try:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(processes, until, may_fail=False):
    """Waits for `until()`, for as long as processes make progress and none has failed."""
    used = [0.0] * len(processes)
    since = time.monotonic()
    while not until():
        time.sleep(0.05)
        for number, process in enumerate(processes):
            assert may_fail or process.poll() in (None, 0), output_of(process)
            if cpu_seconds(process) > used[number] + 0.5:
                used[number], since = cpu_seconds(process), time.monotonic()
        if time.monotonic() > since + PATIENCE:
            pytest.fail("\n".join(["no progress", *map(output_of, processes)]))


def finish(processes):
    """The outputs of processes that end well."""
    wait(processes, lambda: all(process.poll() == 0 for process in processes))
    return [output_of(process) for process in processes]


def final_model(workdir):
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step, model, _, _ = checkpoints.restore_model()
    return step, model


def saved_step(workdir):
    return final_model(workdir)[0]


def start_endless(workdir, pictures, **fields):
    """Two processes of a run that does not end by itself, once it has logged eight steps."""
    running = start(workdir, pictures, num_train_steps=100_000, **fields)
    log = workdir / "metrics.jsonl"
    wait(running, lambda: log.exists() and log.read_text().count("\n") >= 8)
    return running


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, picture_folder):
    """The log of six steps on the eight devices of this process."""
    workdir = tmp_path_factory.mktemp("one")
    training.train(run_config(picture_folder, **SMALL), workdir)
    return records(workdir)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["shard_map", pytest.param("pmap", marks=pytest.mark.slow)])
def test_two_processes_have_the_numbers_of_one_and_stop_at_one_saved_step(
    one_process, tmp_path, picture_folder, mode
):
    running = start_endless(tmp_path, picture_folder, parallel=mode)
    running[1].terminate()  # the notice that a machine is taken back reaches one process alone
    first, second = finish(running)
    assert "starting from step 0" in first and "starting" not in second
    (stopped,) = map(int, re.findall(r"told to stop: saving step (\d+), ending", first))
    assert "told to stop" not in second
    assert saved_step(tmp_path) == stopped >= 8
    logged = records(tmp_path)
    assert [record["step"] for record in logged] == list(range(1, stopped + 1))
    # Adam makes whole steps of rounding errors where a gradient should be 0: losses are compared.
    for ours, theirs in zip(logged, one_process, strict=False):
        assert ours.keys() == theirs.keys()
        tolerance = 1e-5 if ours["step"] == 1 else 2e-3
        for name in theirs:
            if name.startswith(("loss/", "held_out/")):
                np.testing.assert_allclose(ours[name], theirs[name], tolerance, 1e-5, err_msg=name)


@pytest.mark.slow
def test_processes_agree_on_the_checkpoint_to_go_on_from(tmp_path, picture_folder):
    finish(start(tmp_path, picture_folder, devices=1))
    expected = final_model(tmp_path)
    # What one of them alone cannot read is not damaged, and none goes on or waits for another.
    running = start(tmp_path, picture_folder, devices=1, blind=1)
    wait(running, lambda: all(process.poll() is not None for process in running), may_fail=True)
    assert all(process.returncode for process in running)
    first, second = map(output_of, running)
    assert "checkpoints/6 can be read by some processes, but not by [1]" in first
    assert "the disk is away" in second
    # What is damaged is so for all.
    damage(tmp_path / "checkpoints", 6, "model")
    first, _ = finish(start(tmp_path, picture_folder, devices=1))
    assert "resuming from step 3" in first
    folders = {folder.name for folder in (tmp_path / "checkpoints").iterdir()}
    assert folders == {"3", "6", "6.damaged"}
    step, model = final_model(tmp_path)
    assert step == 6
    assert_trees_equal(model, expected[1])


@pytest.mark.slow
def test_a_killed_process_and_a_restart(tmp_path, picture_folder):
    running = start_endless(tmp_path, picture_folder)
    for process in running[::-1]:  # Its peer cannot go on alone; a cluster would end it.
        process.kill()
        process.wait()
    saved = saved_step(tmp_path)
    assert saved >= 3 and saved % 3 == 0
    # Both are started again; then fewer machines are left, and one with one device takes over.
    for processes, devices in ((2, 2), (1, 1)):
        sizes = dict(processes=processes, devices=devices, sample_every_steps=100_000)
        first, *_ = finish(start(tmp_path, picture_folder, num_train_steps=saved + 2, **sizes))
        assert f"resuming from step {saved}" in first
        assert saved_step(tmp_path) == saved + 2
        saved += 2


@pytest.mark.slow
def test_a_prior_has_the_losses_of_one_process(networks, tmp_path, picture_folder):
    model = tmp_path / "model"
    params = jax.device_get(model_params(networks, seed=0))
    Inpainter(run_config(picture_folder), params, step=7, digest="").save(model)
    train_prior(config_of(), model, tmp_path / "one")
    finish(start(tmp_path / "two", picture_folder, prior_of=str(model)))
    for ours, theirs in zip(*map(records, (tmp_path / "two", tmp_path / "one")), strict=True):
        for name in ("loss/prior", "gradient_norm", "held_out/prior"):
            np.testing.assert_allclose(ours.get(name, 0), theirs.get(name, 0), 1e-3, err_msg=name)
