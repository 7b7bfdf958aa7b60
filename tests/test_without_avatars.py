"""The plain install: everything but avatars works without the extra `avatars`."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

PROGRAM = """
import sys
for name in ("python_avatars", "resvg_py"):
    sys.modules[name] = None
sys.path.insert(0, ".")
model, pictures, output = sys.argv[1:]

import numpy as np
import uctgan_jax
from uctgan_jax.data.sources import open_source
from uctgan_jax.web.examples import examples
from uctgan_jax.web.page import build_page

inpainter = uctgan_jax.Inpainter.load(model)
image = np.zeros((32, 32, 3), np.uint8)
mask = np.zeros((32, 32), np.uint8)
mask[8:20, 8:20] = 1
assert inpainter.complete(image, mask, num_samples=2).images.shape == (2, 32, 32, 3)
assert examples(32) == []
build_page(inpainter)

try:
    open_source("avatars", split="test", image_size=32)
except ValueError as error:
    assert "pip install 'uctgan-jax[avatars]'" in str(error)
else:
    raise AssertionError("avatars without the extra")

import evaluate
from uctgan_jax import command_line
sys.argv = ["evaluate.py", f"--workdir={model}", f"--output={output}",
            "--config=configs/folder.py:32", f"--config.data.source=folder:{pictures}",
            "--config.eval.num_examples=2", "--config.eval.num_samples=2"]
command_line.run(evaluate.main)
"""


def test_a_plain_install_has_all_but_avatars(inpainter, picture_folder, tmp_path):
    inpainter.save(tmp_path / "model")
    output = tmp_path / "report.json"
    command = [sys.executable, "-c", PROGRAM, tmp_path / "model", picture_folder, output]
    end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert end.returncode == 0, end.stderr
    assert output.exists() and "hole PSNR" in end.stdout
