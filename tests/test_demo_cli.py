"""`demo.py` before there is a page; `tests/web/browser` has the rest."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments, before=""):
    """Runs demo.py in a process of its own, after some Python; gives its end."""
    program = (
        f"{before}\nimport runpy, sys\n"
        f"sys.argv = ['demo.py', *{arguments!r}]\n"
        "runpy.run_path('demo.py', run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "ready" not in result.stdout
    return result.stderr.splitlines()[-1]


def test_without_gradio_it_says_what_to_install():
    line = run(before="import sys; sys.modules['gradio'] = None")
    assert line.startswith("demo.py: ") and "pip install 'uctgan-jax[web]'" in line


@pytest.mark.slow
def test_a_missing_model_is_one_line():
    assert run("--checkpoint=nowhere").startswith("demo.py: nowhere is neither a run's workdir")


@pytest.mark.slow
def test_a_taken_port_is_one_line(inpainter, tmp_path):
    inpainter.save(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = run(f"--checkpoint={tmp_path}", f"--port={port}")
    assert line.startswith("demo.py: ") and str(port) in line
