"""How long completions take: JSON on stdout.

    python -m benchmarks.inpaint_latency [--image_sizes=64,256] [--num_samples=1,8,50] \
        [--compute_dtype=float32] [--seconds=20]

One picture, random weights, the networks of `configs/default.py`. `ms_a_completion` is a call of
`Inpainter.sample`, transfers included, over its completions. `share_of_ceiling` is what the call
reaches of a bare matrix product of the same type, timed in turns with it. All runs on the first
device.
"""

from __future__ import annotations

import argparse
import json

import jax
import ml_collections
from tqdm import tqdm

from benchmarks import programs
from benchmarks.device import Matmul, device_name, time_in_turns
from uctgan_jax.configs import default
from uctgan_jax.inpainting.inpainter import Inpainter


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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image_sizes", default="64,256")
    parser.add_argument("--num_samples", default="1,8,50")
    parser.add_argument("--compute_dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--seconds", type=float, default=20, help="for each count and size")
    args = parser.parse_args()
    matmul = Matmul(args.compute_dtype)
    results = []
    for size in map(int, args.image_sizes.split(",")):
        config = default.get_config(size)
        config.compute_dtype = args.compute_dtype
        results.append(
            measure(
                config,
                num_samples=[int(count) for count in args.num_samples.split(",")],
                seconds=args.seconds,
                matmul=matmul,
            )
        )
    report = {
        "device": device_name(),
        "jax": jax.__version__,
        "compute_dtype": args.compute_dtype,
        "results": results,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
