"""Folder runs and evaluations on two processes: the results of one, and what becomes of errors."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from tests.conftest import TINY_PRIOR, run_config, run_program
from uctgan_jax import Inpainter
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.config import config_dict
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.files import held_alone
from uctgan_jax.images import write_image
from uctgan_jax.processes import gather, together
from uctgan_jax.programs import inpaint

ROOT = Path(__file__).parents[1]
STARTED: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def no_process_is_left():
    """A test that fails leaves no endless run behind."""
    yield
    for process in STARTED:
        process.kill()
        process.wait()
    STARTED.clear()


@pytest.fixture(scope="module")
def model(inpainter, picture_folder, tmp_path_factory) -> Path:
    """A saved model whose config names eight pictures, in batches of three."""
    config = run_config(picture_folder)
    config.eval.update(num_examples=8, num_samples=2, batch_size=3)
    config.prior = TINY_PRIOR
    folder = tmp_path_factory.mktemp("model") / "weights"
    Inpainter(config, inpainter.params, step=7, digest="").save(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(inpainter, model, tmp_path_factory) -> Path:
    """The same as a run's checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    config = config_dict(Inpainter.load(model).config)
    params = jax.device_get(inpainter.params)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        checkpoints.save(1, params, {"step": np.int32(1)}, config, error=1.0)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Forty pictures of several sizes, of which the last has no mask."""
    folder = tmp_path_factory.mktemp("folder")
    rng = np.random.default_rng(0)
    for number in range(40):
        height, width = (33 + number % 3, 40 + number % 5)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_image(folder / "images" / f"{number:02d}.png", image)
        mask = np.zeros((height, width), np.uint8)
        mask[8:20, 9:22] = 255
        if number < 39:
            write_image(folder / "masks" / f"{number:02d}.png", mask)
    (folder / "images" / "notes.txt").write_text("no picture")
    return folder


def start(program: str, *options: str, processes: int, last: tuple[str, ...] = ()) -> list:
    """Starts a program on one device a process; `last` are more options of the last process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = re.sub(r"(device_count)=\d+", r"\1=1", os.environ["XLA_FLAGS"])
    started = []
    for index in range(processes):
        command = [sys.executable, program, *options]
        if processes > 1:
            command += [f"--coordinator_address=127.0.0.1:{port}", f"--process_id={index}"]
            command += [f"--num_processes={processes}", *(last if index == processes - 1 else ())]
        started.append(
            subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "XLA_FLAGS": flags},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    STARTED.extend(started)
    return started


def finish(processes, status: int | None = 0) -> list[str]:
    """What they print, when all have come to their ends."""
    outputs = [process.communicate()[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == status or status is None, output
    return outputs


def start_folder_run(model, pictures, output, *options, **changes):
    options = (
        f"--checkpoint={model}",
        f"--images={pictures / 'images'}",
        f"--masks={pictures / 'masks'}",
        f"--output={output}",
        "--num_samples=2",
        *options,
    )
    return start("inpaint.py", *options, **changes)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_folder_run_on_two_processes_writes_what_one_writes(model, pictures, tmp_path):
    finish(start_folder_run(model, pictures, tmp_path / "one", processes=1), status=1)
    running = start_folder_run(model, pictures, tmp_path / "two", processes=2)
    first, second = finish(running, status=1)
    assert "39 pictures completed, 0 were finished already, 1 failed" in first
    assert "pictures completed" not in second and "1 left out" not in second
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert len(one) == 39 * 4 + 1 and one == two
    summary = json.loads(two["summary.json"])
    assert summary["failed"] == {"39": "no mask of this name"} and len(summary["left_out"]) == 1


@pytest.mark.slow
def test_one_is_killed_and_a_second_run_does_the_rest(checkpoint, pictures, tmp_path):
    running = start_folder_run(checkpoint, pictures, tmp_path, processes=2)
    odd = [tmp_path / f"{number:02d}" / "grid.png" for number in range(1, 40, 2)]
    while sum(path.exists() for path in odd) < 3:
        assert all(process.poll() is None for process in running), running[0].communicate()[0]
        time.sleep(0.005)
    running[1].kill()
    first, _ = finish(running, status=None)  # The other one does not wait for ever.
    assert running[0].returncode != 0 and "another task died" in first
    assert not (tmp_path / "summary.json").exists()

    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/scores.json")}
    done = [path for path in before if json.loads(path.read_text())["files"]]
    assert 20 <= len(done) < 39
    finish(start_folder_run(checkpoint, pictures, tmp_path, processes=2), status=1)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["already_finished"] == len(done)
    assert summary["completed"] == 39 - len(done)
    assert all(path.stat().st_mtime_ns == before[path] for path in done)
    assert len(list(tmp_path.glob("*/001.png"))) == 39


@pytest.mark.slow
@pytest.mark.parametrize("is_held", [True, False])
def test_the_error_of_one_process_ends_all_with_one_line_each(model, pictures, tmp_path, is_held):
    out = tmp_path / "out"
    out.mkdir()
    lines = [f"{out}: another run is writing to this folder", "nowhere: no such folder"]
    ends = ["process 0 of this run has failed", "process 1 of this run has failed"]
    with held_alone(out, busy="") if is_held else contextlib.nullcontext():
        last = () if is_held else ("--images=nowhere",)
        running = start_folder_run(model, pictures, out, processes=2, last=last)
        outputs = finish(running, status=None)
    failing, other = outputs if is_held else reversed(outputs)
    assert f"inpaint.py: {lines[not is_held]}\n" in failing
    assert f"inpaint.py: {ends[not is_held]}, and says why\n" in other
    assert "Traceback" not in failing + other
    assert all(process.returncode in (1, 2) for process in running)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("waits", [True, False])
def test_a_process_that_is_told_to_stop_does_so_at_once(model, pictures, tmp_path, sent, waits):
    # So many that neither is done before this test has looked, on a busy machine either.
    running = start_folder_run(model, pictures, tmp_path, "--num_samples=100", processes=2)
    even = [tmp_path / f"{number:02d}" / "grid.png" for number in range(0, 40, 2)]
    while not any(path.exists() for path in even):
        assert all(process.poll() is None for process in running), running[0].communicate()[0]
        time.sleep(0.005)
    if waits:  # for the other one, whose work is not done
        running[1].send_signal(signal.SIGSTOP)
        while not all((path.parent / "scores.json").exists() for path in even):
            assert running[0].poll() is None, running[0].communicate()[0]
            time.sleep(0.1)
        time.sleep(1)
    running[0].send_signal(sent)
    first = running[0].communicate()[0]
    assert running[0].returncode == (130 if sent == signal.SIGINT else -sent), first
    assert ("stopped: what is done stays\n" in first) == (sent == signal.SIGINT)
    running[1].send_signal(signal.SIGCONT)
    running[1].communicate()
    assert running[1].returncode != 0  # It hears of it.


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["completion", "paper"])
def test_an_evaluation_on_two_processes_gives_the_report_of_one(model, tmp_path, protocol):
    reports, measured = [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        options = f"--workdir={model}", f"--output={folder / 'r.json'}", f"--protocol={protocol}"
        first, *others = finish(start("evaluate.py", *options, processes=processes))
        assert "hole PSNR" in first and not any("hole PSNR" in other for other in others)
        reports.append(json.loads((folder / "r.json").read_text()))
        for name in ("command", "date", "hardware"):
            del reports[-1][name]
        (cache,) = (folder / "r.cache").iterdir()
        measured.append(cache.read_text().splitlines())
    assert reports[0] == reports[1]
    # Each picture once, and to the bit.
    assert len(measured[0]) == 9 and sorted(measured[0]) == sorted(measured[1])
    sheets = [sorted(path.name for path in (tmp_path / n).glob("*.png")) for n in "12"]
    assert sheets[0] == sheets[1]


@pytest.mark.slow
def test_an_evaluation_whose_first_process_was_killed_goes_on(model, tmp_path):
    options = f"--workdir={model}", f"--output={tmp_path / 'r.json'}"
    running = start("evaluate.py", *options, processes=2)
    cache = tmp_path / "r.cache"

    def measured() -> list[str]:
        lines = [line for path in cache.glob("*.jsonl") for line in path.read_text().splitlines()]
        return sorted(line for line in lines if "inputs" in line)

    while not measured():
        assert all(process.poll() is None for process in running), running[0].communicate()[0]
        time.sleep(0.005)
    running[0].kill()
    finish(running, status=None)
    assert all(process.returncode != 0 for process in running)
    kept = measured()
    finish(start("evaluate.py", *options, processes=2))
    assert len(list(cache.iterdir())) == 1
    assert set(kept) <= set(measured()) and len(measured()) == 8
    assert json.loads((tmp_path / "r.json").read_text())["num_examples"] == 8


def test_the_shares_of_the_batches_are_those_of_one_process(picture_folder):
    source = open_source(f"folder:{picture_folder}", split="test", image_size=32)
    options = dict(
        image_size=32, batch_size=3, masks=MaskOptions(kind="center"), seed=1, num_examples=8
    )
    whole = list(eval_batches(source, **options))
    shares = [
        list(eval_batches(source, **options, process_index=index, process_count=2))
        for index in range(2)
    ]
    assert [len(share) for share in shares] == [2, 1]
    for number, batch in enumerate(whole):
        for name, rows in batch.items():
            np.testing.assert_array_equal(shares[number % 2][number // 2][name], rows)


def test_one_process_alone_is_left_alone():
    assert gather("here", {"a": 1}) == [{"a": 1}]
    with together("here"):
        pass
    for error in (ValueError("a mistake"), KeyboardInterrupt()):
        with pytest.raises(type(error)), together("here"):
            raise error


def test_several_processes_are_for_folders(capsys):
    command = ["--checkpoint=c", "--image=p.png", "--mask=m.png", "--output=o", "--distributed"]
    assert run_program(inpaint.main, *command) == 2
    assert "several processes share the pictures of --images" in capsys.readouterr().err
