"""`demo.py` before there is a page; `tests/browser` has the rest."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import demo

ROOT = Path(__file__).parents[1]


def test_a_missing_model_is_one_line():
    with pytest.raises(SystemExit, match="demo.py: nowhere is neither a run's workdir"):
        demo.main(["--checkpoint=nowhere"])


def test_a_taken_port_is_one_line(inpainter, tmp_path, capsys):
    inpainter.save(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=f"demo.py: .*{port}"):
            demo.main([f"--checkpoint={tmp_path}", f"--port={port}"])
    assert "ready" not in capsys.readouterr().out


def test_without_gradio_it_says_what_to_install():
    script = "import sys; sys.modules['gradio'] = None; import demo"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.startswith("demo.py: ") and "pip install '.[demo]'" in result.stderr
    assert "Traceback" not in result.stderr
