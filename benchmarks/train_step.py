"""How fast training runs here, and how soon: JSON on stdout.

    python -m benchmarks.train_step --config=configs/faces64.py [--seconds=30] \
        [--stage=joint] [--config.batch_size=8] [--config.compute_dtype=bfloat16] ...

Times the real step on all devices, on a batch that is there already, in turns with a bare matrix
product of the same type: `share_of_ceiling` is one against the other (a device each). The time to
the first step runs from the config to the first step's metrics, without Python's imports: with
an empty compilation cache, and again with the one that left behind. The data wait is the share of
time the loop waits for batches that the input pipeline reads from a folder of synthetic JPEGs of
the config's size.

On an Intel CPU, `cpu_flags_speedup` is how many times faster a step is with the XLA flags that the
programs set there (`uctgan_jax/cpu_flags.py`) than without: a second process takes steps in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import ml_collections
from absl import flags, logging
from jax.experimental.compilation_cache import compilation_cache as jax_cache
from tqdm import tqdm

from benchmarks import programs
from benchmarks.device import Matmul, device_name, time_in_turns
from benchmarks.input_pipeline import write_jpegs
from uctgan_jax import command_line, compilation_cache, cpu_flags
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import train_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.parallel import DataParallel
from uctgan_jax.training import device_types

FLAGS = flags.FlagValues()
_CONFIG = command_line.define_config("The configuration of the run.", FLAGS, required=True)
_STAGE = flags.DEFINE_enum("stage", "joint", programs.STAGES, "Whose steps.", flag_values=FLAGS)
_SECONDS = flags.DEFINE_float(
    "seconds", 30, "For the step, and again for the data wait.", flag_values=FLAGS
)
_ON_REQUEST = flags.DEFINE_bool(
    "on_request",
    False,
    "Take a step for each line on stdin, and print its seconds.",
    flag_values=FLAGS,
)


class Training:
    """A run's state and compiled step, without its files."""

    def __init__(self, config: ml_collections.ConfigDict):
        """Makes the state on the devices; the step compiles when it is first taken."""
        self.parallel = DataParallel(config.parallel)
        self.parallel.check_batch_size(config.batch_size)
        create, step = programs.train_program(config, self.parallel.axis_name, _STAGE.value)
        self.state = self.parallel.replicate(jax.jit(create)())
        self._step = self.parallel.compile(step)

    def step(self, batch: dict[str, jax.Array]) -> None:
        """Takes one step and waits for its metrics."""
        self.state, metrics = self._step(self.state, batch)
        jax.block_until_ready(metrics)


def batch_sizes(config: ml_collections.ConfigDict) -> tuple[int, int, int]:
    """Examples in a batch, and the sides of a picture and of a patch."""
    return config.batch_size, config.image_size, config.model.patch_size


def seconds_to_first_step(config: ml_collections.ConfigDict, cache: Path) -> float:
    """Seconds from a config to the first step's metrics, with nothing compiled in memory."""
    jax.clear_caches()
    jax_cache.reset_cache()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    compilation_cache.enable()
    batch = programs.random_batch(*batch_sizes(config))
    start = time.perf_counter()
    training = Training(config)
    training.step(training.parallel.shard(batch))
    return time.perf_counter() - start


def measure_rate(config: ml_collections.ConfigDict, training: Training, seconds: float) -> dict:
    """Pictures and operations a second, beside the matrix product's."""
    flop = programs.train_flop(config, config.batch_size, _STAGE.value)
    batch = training.parallel.shard(programs.random_batch(*batch_sizes(config)))
    matmul = Matmul(config.compute_dtype)
    training.step(batch)
    times = time_in_turns({"matmul": matmul, "step": lambda: training.step(batch)}, seconds=seconds)
    rate = flop / times["step"] / jax.device_count()
    ceiling = matmul.flop / times["matmul"]
    return {
        "step_ms": round(1e3 * times["step"], 2),
        "pictures_per_second": round(config.batch_size / times["step"], 2),
        "gflop_a_picture": round(flop / config.batch_size / 1e9, 2),
        "gflop_per_second_a_device": round(rate / 1e9, 1),
        "matmul_gflop_per_second": round(ceiling / 1e9, 1),
        "share_of_ceiling": round(rate / ceiling, 3),
    }


def measure_data_wait(
    config: ml_collections.ConfigDict, training: Training, folder: Path, seconds: float
) -> dict:
    """The share of training's time that goes by waiting for the input pipeline."""
    write_jpegs(folder / "train", side=config.image_size, count=200)
    batches = training.parallel.prefetch(
        device_types(
            train_batches(
                open_source(f"folder:{folder}", split="train", image_size=config.image_size),
                image_size=config.image_size,
                batch_size=config.batch_size,
                masks=MaskOptions(**config.mask),
                flip=config.data.flip,
                zoom=config.data.zoom,
                seed=config.seed,
                patch_size=config.model.patch_size,
                num_threads=config.data.num_threads,
            )
        )
    )
    training.step(next(batches))
    waited, steps, start = 0.0, 0, time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        batch = next(batches)
        waited += time.perf_counter() - now
        training.step(batch)
        steps += 1
    elapsed = time.perf_counter() - start
    return {
        "data_wait_share": round(waited / elapsed, 4),
        "pictures_per_second_with_data": round(steps * config.batch_size / elapsed, 2),
    }


def steps_on_request(config: ml_collections.ConfigDict) -> None:
    """Takes a step for each line on stdin and prints its seconds; the first is compiled before."""
    training = Training(config)
    batch = training.parallel.shard(programs.random_batch(*batch_sizes(config)))
    training.step(batch)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        training.step(batch)
        print(time.perf_counter() - start, flush=True)


def measure_cpu_flags(config: ml_collections.ConfigDict, training: Training, seconds: float):
    """Median seconds of a step without `cpu_flags` over those with it, in turns."""
    flags_without = f"{os.environ['XLA_FLAGS']} {cpu_flags.WITH_LIBRARY}"
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:], "--on_request"],
        env=os.environ | {"XLA_FLAGS": flags_without},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "ready\n"
        batch = training.parallel.shard(programs.random_batch(*batch_sizes(config)))
        ours, theirs, start = [], [], time.perf_counter()
        while len(ours) < 3 or time.perf_counter() < start + seconds:
            before = time.perf_counter()
            training.step(batch)
            ours.append(time.perf_counter() - before)
            print(file=other.stdin, flush=True)
            theirs.append(float(other.stdout.readline()))
        other.stdin.close()
    return round(statistics.median(theirs) / statistics.median(ours), 3)


def main() -> None:
    logging.set_verbosity(logging.WARNING)
    cpu_flags.set_best()
    config = _CONFIG.value
    if _ON_REQUEST.value:
        compilation_cache.enable()
        steps_on_request(config)
        return
    bar = tqdm(total=5, file=sys.stderr, unit="part")
    with tempfile.TemporaryDirectory() as temporary:
        first = {}
        for name in ("cold", "cached"):
            bar.set_description(f"first step, {name}")
            first[name] = round(seconds_to_first_step(config, Path(temporary) / "cache"), 2)
            bar.update()
        training = Training(config)
        bar.set_description("steps")
        rate = measure_rate(config, training, _SECONDS.value)
        bar.update()
        bar.set_description("CPU flags")
        if cpu_flags.is_intel() and jax.default_backend() == "cpu":
            rate["cpu_flags_speedup"] = measure_cpu_flags(config, training, _SECONDS.value)
        bar.update()
        bar.set_description("data wait")
        wait = measure_data_wait(config, training, Path(temporary) / "data", _SECONDS.value)
        bar.update()
    bar.close()
    report = {
        "device": device_name(),
        "jax": jax.__version__,
        "image_size": config.image_size,
        "batch_size": config.batch_size,
        "compute_dtype": config.compute_dtype,
        "parallel": config.parallel,
        "stage": _STAGE.value,
        "seconds_to_first_step": first,
        **rate,
        **wait,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.run(main, FLAGS)
