"""How long `inpaint.py` takes from the start of its process to the written grid: JSON on stdout.

    python -m benchmarks.cold_start --checkpoint=DIR [--num_samples=8] [--repeats=5]

One picture of noise with a hole in its middle. `first` is a machine's first
start, with nothing compiled yet; `again` is the median of later ones. `cpu_seconds` are those that
the process itself worked for, on all cores: unlike `seconds`, other jobs hardly change them.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

from uctgan_jax import command_line
from uctgan_jax.images import write_image

FLAGS = flags.FlagValues()
_CHECKPOINT = command_line.define_path(
    "checkpoint", None, "As for inpaint.py.", FLAGS, required=True
)
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 64, "Side of the picture.", flag_values=FLAGS)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 8, "Completions of each picture.", flag_values=FLAGS
)
_REPEATS = flags.DEFINE_integer("repeats", 5, "How often it is started.", flag_values=FLAGS)

REPOSITORY = Path(__file__).resolve().parents[1]


def time_process(command: Sequence[str], **environment: str) -> dict[str, float]:
    """Runs a command to its end; its wall and CPU seconds.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    before, start = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)
    seconds, after = time.perf_counter() - start, os.times()
    user = after.children_user - before.children_user
    system = after.children_system - before.children_system
    return {"seconds": seconds, "cpu_seconds": user + system}


def measure(
    checkpoint: str, *, image_size: int, num_samples: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds of the first start, of later ones, and of importing what they import alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        shape = (image_size, image_size, 3)
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        write_image(folder / "image.png", image)
        mask = np.zeros(shape, np.uint8)
        mask[image_size // 4 : image_size * 3 // 4, image_size // 4 : image_size * 3 // 4] = 255
        write_image(folder / "mask.png", mask)
        inpaint = [
            sys.executable,
            str(REPOSITORY / "inpaint.py"),
            f"--checkpoint={checkpoint}",
            f"--image={folder / 'image.png'}",
            f"--mask={folder / 'mask.png'}",
            f"--output={folder / 'out'}",
            f"--num_samples={num_samples}",
        ]
        imports = [
            sys.executable,
            "-c",
            f"import sys; sys.path[0] = {str(REPOSITORY)!r}; import uctgan_jax.programs.inpaint",
        ]
        first = time_process(inpaint, **cache)
        again, importing = [], []
        for _ in tqdm(range(repeats), desc="starts"):
            again.append(time_process(inpaint, **cache))
            importing.append(time_process(imports))
        if not (folder / "out" / "grid.png").is_file():
            raise RuntimeError("inpaint.py wrote no grid")
    return {"first": _median([first]), "again": _median(again), "imports": _median(importing)}


def _median(times: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(t[key] for t in times), 2) for key in times[0]}


def main() -> None:
    load = os.getloadavg()[0]
    report = {
        "checkpoint": str(_CHECKPOINT.value),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average_before": round(load, 2),
        **measure(
            str(_CHECKPOINT.value),
            image_size=_IMAGE_SIZE.value,
            num_samples=_NUM_SAMPLES.value,
            repeats=_REPEATS.value,
        ),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.run(main, FLAGS)
