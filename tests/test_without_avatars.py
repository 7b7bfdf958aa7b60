"""The plain install: everything but avatars works without the extra `avatars`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PROGRAM = """
import sys
for name in ("python_avatars", "resvg_py"):
    sys.modules[name] = None
sys.path.insert(0, ".")
model, pictures, output = sys.argv[1:]

import uctgan_jax
from uctgan_jax.data.sources import open_source
from uctgan_jax.web.examples import examples
from uctgan_jax.web.page import build_page

inpainter = uctgan_jax.Inpainter.load(model)
assert examples('avatars', 32) == []
build_page(inpainter)

try:
    open_source("avatars", split="test", image_size=32)
except ValueError as error:
    assert "pip install 'uctgan-jax[avatars]'" in str(error)
else:
    raise AssertionError("avatars without the extra")

from uctgan_jax.programs import evaluate
sys.argv = ["evaluate.py", f"--workdir={model}", f"--output={output}",
            "--config=configs/folder.py:32", f"--config.data.source=folder:{pictures}",
            "--config.eval.num_examples=1", "--config.eval.num_samples=1"]
evaluate.main()
"""


@pytest.mark.slow
def test_a_plain_install_has_all_but_avatars(inpainter, picture_folder, tmp_path):
    inpainter.save(tmp_path / "model")
    output = tmp_path / "report.json"
    command = [sys.executable, "-c", PROGRAM, tmp_path / "model", picture_folder, output]
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}  # one device
    end = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert end.returncode == 0, end.stderr
    assert output.exists() and "hole PSNR" in end.stdout
