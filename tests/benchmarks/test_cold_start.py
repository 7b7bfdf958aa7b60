"""Cold start: what is measured, and that inference leaves the packages of training alone."""

import subprocess
import sys

import jax
import pytest

from benchmarks import cold_start
from tests.conftest import run_config
from uctgan_jax.inpainting.inpainter import Inpainter

NOT_FOR_INFERENCE = {"orbax", "grain", "tensorflow_datasets", "clu", "tensorboardX", "sklearn"}


@pytest.fixture(scope="module")
def weights(networks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    params = jax.jit(networks.init_generator)(jax.random.key(0))
    Inpainter(run_config("unused"), params, step=0, digest="").save(folder)
    return folder


@pytest.mark.slow
def test_times_whole_processes(weights):
    times = cold_start.measure(str(weights), image_size=32, num_samples=1, repeats=1)
    assert list(times) == ["first", "again", "imports"]
    # The second start finds what the first has compiled.
    assert times["imports"]["cpu_seconds"] < times["again"]["cpu_seconds"]
    assert times["again"]["cpu_seconds"] < times["first"]["cpu_seconds"]


def test_a_failing_command_is_not_timed():
    with pytest.raises(subprocess.CalledProcessError):
        cold_start.time_process([sys.executable, "-c", "raise SystemExit(1)"])


def test_saved_weights_load_without_the_packages_of_training(weights):
    program = (
        f"import sys; sys.path[0] = {str(cold_start.REPOSITORY)!r}\n"
        "from uctgan_jax.programs import inpaint\n"
        f"inpaint.Inpainter.load({str(weights)!r})\n"
        "print(*{name.partition('.')[0] for name in sys.modules})\n"
    )
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    packages = set(run.stdout.split())
    assert "flax" in packages
    assert not packages & NOT_FOR_INFERENCE
