"""How long completions take: JSON on stdout.

    python -m benchmarks.inpaint_latency [--image_sizes=64,256] [--num_samples=1,8,50] \
        [--compute_dtype=float32] [--seconds=20]

One picture, random weights, the networks of `configs/default.py`. `ms_a_completion` is a call of
`Inpainter.sample`, transfers included, over its completions. `share_of_ceiling` is what the call
reaches of a bare matrix product of the same type, timed in turns with it. All runs on the first
device.
"""

from __future__ import annotations

import json

import jax
import ml_collections
from absl import flags
from tqdm import tqdm

from benchmarks import programs
from benchmarks.device import Matmul, device_name, time_in_turns
from uctgan_jax import command_line
from uctgan_jax.configs import default
from uctgan_jax.inpainting.inpainter import Inpainter

FLAGS = flags.FlagValues()
_IMAGE_SIZES = flags.DEFINE_string(
    "image_sizes", "64,256", "Sides, with commas between.", flag_values=FLAGS
)
_NUM_SAMPLES = flags.DEFINE_string(
    "num_samples", "1,8,50", "Numbers of completions, with commas between.", flag_values=FLAGS
)
_COMPUTE_DTYPE = flags.DEFINE_enum(
    "compute_dtype", "float32", ("float32", "bfloat16"), "What is computed in.", flag_values=FLAGS
)
_SECONDS = flags.DEFINE_float("seconds", 20, "For each count and size.", flag_values=FLAGS)


def measure(
    config: ml_collections.ConfigDict, *, num_samples: list[int], seconds: float, matmul: Matmul
) -> dict:
    """Times a config's inpainter, each count of completions for about `seconds`."""
    networks = programs.make_networks(config)
    params = jax.jit(networks.init_generator)(jax.random.key(config.seed))
    inpainter = Inpainter(config, params, step=0, digest="random", devices=jax.local_devices()[:1])
    batch = programs.random_batch(1, config.image_size)
    keys = jax.random.key(0)[None]
    results = {}
    for count in tqdm(num_samples, desc=f"{config.image_size} px", unit="count"):

        def sample(count: int = count) -> None:
            inpainter.sample(batch["image"], batch["mask"], keys, count)

        sample()
        times = time_in_turns({"matmul": matmul, "sample": sample}, seconds=seconds)
        flop = programs.completion_flop(networks, params, count)
        rate, ceiling = flop / times["sample"], matmul.flop / times["matmul"]
        results[count] = {
            "ms_a_call": round(1e3 * times["sample"], 2),
            "ms_a_completion": round(1e3 * times["sample"] / count, 2),
            "gflop_a_call": round(flop / 1e9, 3),
            "gflop_per_second": round(rate / 1e9, 1),
            "matmul_gflop_per_second": round(ceiling / 1e9, 1),
            "share_of_ceiling": round(rate / ceiling, 3),
        }
    if 1 in results:
        for count, result in results.items():
            result["share_of_calls_for_one"] = round(
                result["ms_a_call"] / (count * results[1]["ms_a_call"]), 3
            )
    return {"image_size": config.image_size, "completions": results}


def main() -> None:
    matmul = Matmul(_COMPUTE_DTYPE.value)
    results = []
    for size in map(int, _IMAGE_SIZES.value.split(",")):
        config = default.get_config(size)
        config.compute_dtype = _COMPUTE_DTYPE.value
        results.append(
            measure(
                config,
                num_samples=[int(count) for count in _NUM_SAMPLES.value.split(",")],
                seconds=_SECONDS.value,
                matmul=matmul,
            )
        )
    report = {
        "device": device_name(),
        "jax": jax.__version__,
        "compute_dtype": _COMPUTE_DTYPE.value,
        "results": results,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.run(main, FLAGS)
