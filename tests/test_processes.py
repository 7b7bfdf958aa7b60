"""Several processes: the numbers of one, and a run that survives the death of one of them."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.conftest import assert_trees_equal
from tests.test_checkpoints import damage
from uctgan_jax import training
from uctgan_jax.checkpoints import Checkpoints

ROOT = Path(training.__file__).parents[1]
STARTED: list[subprocess.Popen] = []

# argv: workdir, pictures, steps, of which the prior alone, how devices share the step, the process
# that cannot read checkpoints, number of processes, this one, port
SCRIPT = """
import sys
workdir, pictures, steps, prior_steps, mode, blind, count, index, port = sys.argv[1:]
from uctgan_jax import checkpoints, compilation_cache, parallel, training
compilation_cache.enable()
def read_nothing(*_):
    raise OSError("the disk is away")
if blind == index:
    checkpoints._read = read_nothing
if int(count) > 1:
    parallel.initialize_processes(f"127.0.0.1:{port}", int(count), int(index))
import optax
from tests.conftest import run_config
from uctgan_jax.train_state import Optimizers
# SGD: Adam turns the rounding error of a gradient that should be 0 into a whole step.
sgd = optax.sgd(1e-2)
training.make_optimizers = lambda **_: Optimizers(generator=sgd, prior=sgd, discriminator=sgd)
config = run_config(pictures)
config.num_train_steps = int(steps)
config.prior_steps = int(prior_steps)
config.prior_examples = config.prior_batch_size  # from the second of those steps on, known ones
config.parallel = mode
config.sample_every_steps = 100_000
training.train(config, workdir)
"""


def start(
    workdir, pictures, *, steps=4, prior_steps=2, mode="shard_map", blind=None, processes, devices
):
    """Starts `processes` processes with `devices` devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = re.sub(r"(device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"])
    environment = {**os.environ, "XLA_FLAGS": flags}
    arguments = [str(a) for a in (workdir, pictures, steps, prior_steps, mode, blind, processes)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments, str(index), str(port)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(processes)
    ]
    STARTED.extend(started)
    return started


@pytest.fixture(autouse=True)
def no_process_is_left():
    """A test that fails leaves no endless run behind."""
    yield
    for process in STARTED:
        process.kill()
        process.wait()
    STARTED.clear()


def finish(processes, timeout=300):
    outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
    return outputs


def final_model(workdir):
    with Checkpoints(workdir / "checkpoints", read_only=True) as checkpoints:
        step, model, _, _ = checkpoints.restore_model()
    return step, model


@pytest.fixture(scope="module")
def one_process(tmp_path_factory, picture_folder):
    workdir = tmp_path_factory.mktemp("one")
    finish(start(workdir, picture_folder, processes=1, devices=4))
    return final_model(workdir)


@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
def test_two_processes_give_the_numbers_of_one(one_process, tmp_path, picture_folder, mode):
    first, second = finish(start(tmp_path, picture_folder, mode=mode, processes=2, devices=2))
    assert "starting from step 0" in first and "starting" not in second
    step, model = final_model(tmp_path)
    assert step == one_process[0] == 4
    for ours, theirs in zip(jax.tree.leaves(model), jax.tree.leaves(one_process[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_processes_agree_on_the_checkpoint_to_go_on_from(tmp_path, picture_folder):
    sizes = dict(prior_steps=0, processes=2, devices=1)
    finish(start(tmp_path, picture_folder, **sizes))
    expected = final_model(tmp_path)
    # What one of them alone cannot read is not damaged, and none goes on or waits for another.
    running = start(tmp_path, picture_folder, **sizes, blind=1)
    first, second = (process.communicate(timeout=300)[0] for process in running)
    assert all(process.returncode for process in running)
    assert "checkpoints/4 can be read by some processes, but not by [1]" in first
    assert "the disk is away" in second
    # What is damaged is so for all.
    damage(tmp_path / "checkpoints", 4, "model")
    first, _ = finish(start(tmp_path, picture_folder, **sizes))
    assert "resuming from step 3" in first
    folders = {folder.name for folder in (tmp_path / "checkpoints").iterdir()}
    assert folders == {"3", "4", "4.damaged"}
    step, model = final_model(tmp_path)
    assert step == 4
    assert_trees_equal(model, expected[1])


def start_endless(workdir, pictures):
    """Two processes of a run that does not end by itself, once it has logged eight steps."""
    running = start(workdir, pictures, steps=100_000, prior_steps=0, processes=2, devices=2)
    log = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (log.exists() and log.read_text().count("\n") >= 8):
        assert all(process.poll() is None for process in running), running[0].stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return running


def test_a_machine_to_be_taken_back_stops_all_processes_at_one_saved_step(tmp_path, picture_folder):
    running = start_endless(tmp_path, picture_folder)
    running[1].terminate()  # the notice reaches one process alone
    first, second = finish(running)
    (stopped,) = re.findall(r"told to stop: saving step (\d+), ending", first)
    assert "told to stop" not in second
    assert final_model(tmp_path)[0] == int(stopped) >= 8
    last = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["step"] == int(stopped)


def test_a_killed_process_and_a_restart(tmp_path, picture_folder):
    running = start_endless(tmp_path, picture_folder)
    running[1].kill()
    for process in running:  # Its peer cannot go on alone; a cluster would end it.
        try:
            process.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        saved = checkpoints.steps()[-1]
    assert saved >= 3 and saved % 3 == 0
    # Both are started again; then fewer machines are left, and one with one device takes over.
    for processes, devices in ((2, 2), (1, 1)):
        sizes = dict(prior_steps=0, processes=processes, devices=devices)
        first, *_ = finish(start(tmp_path, picture_folder, steps=saved + 2, **sizes))
        assert f"resuming from step {saved}" in first
        assert final_model(tmp_path)[0] == saved + 2
        saved += 2
