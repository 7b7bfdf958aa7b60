"""The wheel alone, without a checkout: its programs, its configs, its bundled models."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from uctgan_jax.images import read_image, write_image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the installed wheel; all that it depends on is this environment's."""
    source = tmp_path_factory.mktemp("source")
    # The build writes beside the sources.
    for name in ("configs", "uctgan_jax"):
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    for name in ("LICENSE", "README.md", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, source)
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", f"--wheel-dir={source}", str(source)]
    subprocess.run(build, check=True)
    (wheel,) = source.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", f"--target={folder}", str(wheel)], check=True)
    return folder


@pytest.fixture
def run(site, tmp_path):
    """Runs a program of the wheel in a folder that holds nothing of a checkout."""
    environment = os.environ | {
        "PYTHONPATH": str(site),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # one device
    }

    def call(program, *flags):
        command = [site / "bin" / program, *flags]
        subprocess.run(command, check=True, cwd=tmp_path, env=environment)

    return call


def test_adds_one_package_and_five_programs(site):
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"bin", "uctgan_jax"}
    programs = {path.name for path in (site / "bin").glob("uctgan-*")}
    assert programs == {
        f"uctgan-{name}" for name in ("demo", "evaluate", "inpaint", "train", "train-prior")
    }
    assert (site / "uctgan_jax" / "configs" / "paper.py").is_file()


def test_completes_with_a_bundled_model(run, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    mask = np.zeros((48, 40, 1), np.uint8)
    mask[10:30, 10:30] = 255
    write_image(tmp_path / "p.png", image)
    write_image(tmp_path / "m.png", mask)
    run(
        "uctgan-inpaint",
        "--checkpoint=avatars32",
        "--image=p.png",
        "--mask=m.png",
        "--output=out",
        "--num_samples=2",
    )
    first, second = (read_image(tmp_path / "out" / f"00{k}.png") for k in range(2))
    known = mask[..., 0] == 0
    np.testing.assert_array_equal(first[known], image[known])
    assert (first[~known] != second[~known]).any()


def test_trains_by_a_config_that_it_brings(run, tmp_path, picture_folder):
    run(
        "uctgan-train",
        "--config=configs/tiny.py",
        f"--config.data.source=folder:{picture_folder}",
        "--config.num_train_steps=2",
        "--config.batch_size=2",
        "--workdir=run",
    )
    assert (tmp_path / "run" / "checkpoints" / "2").is_dir()
