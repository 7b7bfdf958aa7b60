"""What `select` does for the completions of held-out pictures, and what it costs: JSON on stdout.

    python -m benchmarks.selection --checkpoint=DIR [--num_samples=8] [--num_pictures=50]

For each way to select, means over the pictures of the run's own test split: `difference` and
`least_difference` (LPIPS in the hole to the nearest other completion; its mean and least over the
completions of a picture) and `realism`, as `Completions` has them; and medians of `seconds` and
`cpu_seconds` a picture. CPU seconds are hardly changed by other jobs.
"""

from __future__ import annotations

import functools
import json
import platform
import statistics
import time
from collections.abc import Iterable, Mapping

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from uctgan_jax import command_line, compilation_cache
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.inpainting.selection import SELECTIONS

FLAGS = flags.FlagValues()
_CHECKPOINT = command_line.define_path(
    "checkpoint", None, "What inpaint.py takes.", FLAGS, required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Of prepared sets; by default the run's own.", flag_values=FLAGS
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 8, "Completions of each picture.", flag_values=FLAGS
)
_NUM_PICTURES = flags.DEFINE_integer("num_pictures", 50, "How many pictures.", flag_values=FLAGS)


def measure(
    inpainter: Inpainter, pictures: Iterable[Mapping[str, np.ndarray]], *, num_samples: int
) -> dict[str, dict[str, float]]:
    """Figures by way to select; `pictures` are batches of one, as `eval_batches` gives them."""
    ways = ("none", *SELECTIONS)
    records: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for number, picture in enumerate(tqdm(pictures, unit="picture")):
        for way in ways:
            select = None if way == "none" else way
            image, mask = picture["image"][0], picture["mask"][0]
            complete = functools.partial(inpainter.complete, image, mask, num_samples)
            if number == 0:
                complete(select=select)  # compiles
            start, cpu_start = time.perf_counter(), time.process_time()
            result = complete(select=select)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            records[way].append(
                {
                    "difference": float(result.difference.mean()),
                    "least_difference": float(result.difference.min()),
                    "realism": float(result.realism.mean()),
                    "seconds": seconds,
                    "cpu_seconds": cpu_seconds,
                }
            )
    figures = {}
    for way, of_way in records.items():
        figures[way] = {
            name: (statistics.median if "seconds" in name else statistics.fmean)(
                [record[name] for record in of_way]
            )
            for name in of_way[0]
        }
    return figures


def main() -> None:
    compilation_cache.enable()
    inpainter = Inpainter.load(_CHECKPOINT.value)
    config = inpainter.config
    source = open_source(
        config.data.source,
        split="test",
        image_size=config.image_size,
        data_dir=_DATA_DIR.value or config.data.dir,
        avatars_examples=tuple(config.data.avatars_examples),
        max_corrupt=config.data.max_corrupt,
    )
    pictures = eval_batches(
        source,
        image_size=config.image_size,
        batch_size=1,
        masks=MaskOptions(**config.mask),
        seed=config.eval.seed,
        num_examples=_NUM_PICTURES.value,
    )
    report = {
        "device": jax.devices()[0].device_kind,
        "machine": platform.processor() or platform.machine(),
        "image_size": config.image_size,
        "num_samples": _NUM_SAMPLES.value,
        "num_pictures": min(_NUM_PICTURES.value, len(source)),
        "figures": measure(inpainter, pictures, num_samples=_NUM_SAMPLES.value),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.run(main, FLAGS)
