"""Mistakes on the command line."""

import os
import subprocess
import sys

import pytest
from absl import app

from uctgan_jax import command_line


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("'zzz'", "configs/default.py has them all."),
        ("'zzz'\nDid you mean \"zz\"?", 'configs/default.py has them all. Did you mean "zz"?'),
    ],
)
def test_a_field_that_no_config_has_is_one_line(monkeypatch, cause, said):
    def parse(argv):
        raise AttributeError(KeyError(cause))  # as ml_collections does

    monkeypatch.setattr(app, "parse_flags_with_usage", parse)
    monkeypatch.setattr(sys, "argv", ["/somewhere/train.py", "--config.zzz=3"])
    with pytest.raises(SystemExit) as end:
        command_line.run(lambda argv: None)
    assert end.value.code == f"train.py: --config has no field 'zzz': {said}"


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
        cwd=os.path.dirname(os.path.dirname(__file__)),
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
        "from uctgan_jax import command_line; import jax\n"
        "command_line.run(lambda argv: jax.local_devices())"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cuda"},
        cwd=os.path.dirname(os.path.dirname(__file__)),
    )
    lines = process.stderr.splitlines()
    assert process.returncode == 1
    assert "JAX finds no device to compute on (JAX_PLATFORMS: cuda)" in lines[-1]
    assert "Traceback" not in process.stderr
