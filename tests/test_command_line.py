"""Mistakes on the command line."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from tests.conftest import run_program
from uctgan_jax import command_line
from uctgan_jax.programs import train

ROOT = Path(__file__).parents[1]
PROGRAMS = ("train", "train_prior", "evaluate", "inpaint", "demo")


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_is_the_docstring_and_the_programs_own_flags(name, capsys):
    program = importlib.import_module(f"uctgan_jax.programs.{name}")
    assert run_program(program.main, "--help") == 0
    text = capsys.readouterr().out
    assert f"python {name}.py" in text and f"uctgan-{name.replace('_', '-')}" in text
    assert set(re.findall(r"^  --(\w+): ", text, re.MULTILINE)) == set(program.FLAGS)
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_file_of_a_checkout_is_the_program(name, capsys):
    command = [sys.executable, f"{name}.py", "--zzz"]
    end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert end.returncode == 2
    assert end.stderr == f"{name}.py: Unknown command line flag 'zzz' (--help shows all flags)\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=configs/folder.py:32", "--config.zzz=3"], "--config has no field 'zzz'"),
        (["--config=configs/folder.py:100"], "image size (100) must be one of 32, 64, 128, 256"),
        (["--config=configs/zzz.py"], "no such file, and configs/ has ablation.py, avatars32.py"),
        (["--config=configs/folder.py:32", "zzz"], "unknown arguments: zzz"),
        (["--config=nowhere"], "nowhere is neither a run's workdir"),
        (["--config=runs/mine/config.json"], "the config of a run is --config=runs/mine"),
        ([], "--config is required"),
    ],
)
def test_wrong_flags_are_one_line(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the configs are found from anywhere
    assert run_program(train.main, f"--workdir={tmp_path}", *words) == 2
    error = capsys.readouterr().err
    assert error.startswith("program.py: ") and message in error and error.count("\n") == 1


CONFIG = flags.FlagValues()
command_line.define_path("model", None, "", CONFIG)
command_line.define_config("", CONFIG, default_of="model")


@pytest.mark.parametrize(
    ("words", "batch_size", "image_size"),
    [
        # In any order, and in all ways that flags can be given.
        (["--config=configs/folder.py:32", "--config.batch_size=3"], 3, 32),
        (["--config.batch_size=3", "--config=configs/folder.py:32"], 3, 32),
        (["--config.batch_size=3", "--config", "configs/folder.py:32", "--model=faces64"], 3, 32),
        # A model stands for its config.
        (["--config=faces64"], 512, 64),
        (["--config.batch_size=3", "--config=faces64"], 3, 64),
        (["--config.batch_size=3", "--model=faces64"], 3, 64),
        (["--model", "faces64", "--config.batch_size=3"], 3, 64),
        (["--model=faces64", "--config.batch_size=3", "--config=configs/folder.py:32"], 3, 32),
    ],
)
def test_where_a_config_comes_from(words, batch_size, image_size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def main():
        assert CONFIG.config.batch_size == batch_size and CONFIG.config.image_size == image_size
        return 7

    assert run_program(lambda: command_line.run(main, CONFIG), *words) == 7


def test_without_a_field_there_is_no_config():
    """A program then asks the model itself."""

    def main():
        assert CONFIG.config is None
        return 7

    assert run_program(lambda: command_line.run(main, CONFIG), "--model=faces64") == 7


PRINT = r"""
import sys
from uctgan_jax.command_line import forgiving_output
with forgiving_output():
    for _ in range(1000):
        print("a name, \udce9", 100 * "x")
    print("an error", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize(
    "redirect", [">&-", ">&- 2>&-", ">/dev/full", "2>/dev/full", "| head -c 5"]
)
def test_printing_never_fails(redirect):
    command = f'set -o pipefail; "$0" -c "$1" {redirect}'
    process = subprocess.run(
        ["bash", "-c", command, sys.executable, PRINT],
        capture_output=True,
        cwd=ROOT,
    )
    assert process.returncode == 3
    assert process.stderr in (b"", b"an error\n")


def test_output_needs_nothing_but_write_and_flush(monkeypatch):
    class Notebook:  # as IPython's OutStream, without reconfigure and fileno
        shown = ""

        def write(self, text):
            self.shown += text

        def flush(self):
            pass

    notebook = Notebook()
    monkeypatch.setattr(sys, "stdout", notebook)
    with command_line.forgiving_output():
        print("caf\udce9")
    assert notebook.shown == "caf\\udce9\n" and sys.stdout is notebook


def test_a_device_that_is_not_there_is_one_line():
    code = (
        "from absl import flags; from uctgan_jax import command_line; import jax\n"
        "command_line.run(lambda: jax.local_devices(), flags.FlagValues())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cuda"},
        cwd=ROOT,
    )
    lines = process.stderr.splitlines()
    assert process.returncode == 1
    assert "JAX finds no device to compute on (JAX_PLATFORMS: cuda)" in lines[-1]
    assert "Traceback" not in process.stderr
