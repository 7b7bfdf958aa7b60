"""How fast pictures become batches, beside bare decoding and resizing: JSON on stdout.

    python -m benchmarks.input_pipeline [--seconds=3] [--num_threads=2]

Three sources: 64 px PNG in ArrayRecord (avatars), 256 px JPEG and 1024 px JPEG in folders (read at
256 px; synthetic scenes of smooth shapes and grain, JPEG quality 90). An example holds two pictures
(picture and instance) and a free-form mask. Rates are pictures a second of processor time, summed
over threads: what one core delivers, whatever else the machine does. `bare` decodes the same bytes
from memory and resizes them with the same functions, in one thread; the two take turns.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from uctgan_jax.data.avatars import render, sample_attributes
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import train_batches
from uctgan_jax.data.sources import FolderSource, Source, open_source
from uctgan_jax.images import read_image, resize_and_crop

BATCH = 16
ROUNDS = 5


def write_jpegs(folder: Path, *, side: int, count: int) -> None:
    """Scenes with edges, gradients and grain: about 2 bits a pixel."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(side)
    for i in range(count):
        coarse = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        for _ in range(12):
            centre = tuple(int(n) for n in rng.integers(0, side, 2))
            colour = tuple(float(n) for n in rng.integers(0, 256, 3))
            cv2.circle(image, centre, int(rng.integers(side // 30, side // 5)), colour, -1)
        image += rng.normal(0, 5, image.shape)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
        cv2.imwrite(str(folder / f"{i}.jpg"), image.clip(0, 255).astype(np.uint8), quality)


def rate(step, pictures: int, seconds: float) -> float:
    """Pictures a second of processor time, of calls of `step` for about `seconds`."""
    done, start, end = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        step()
        done += pictures
    return done / (time.process_time() - start)


def settle() -> None:
    """Wait until threads have filled their buffers: their work should not count for another."""
    used = -1.0
    while time.process_time() - used > 0.01:
        used = time.process_time()
        time.sleep(0.2)


def measure(
    source: Source, encoded: list[bytes], *, image_size: int, num_threads: int, seconds: float
) -> dict:
    batches = train_batches(
        source,
        image_size=image_size,
        batch_size=BATCH,
        masks=MaskOptions("free_form", hole_share=(0.1, 0.4)),
        flip=True,
        seed=0,
        num_threads=num_threads,
    )
    turn = iter(range(10**9))

    def bare():
        for _ in range(BATCH):
            resize_and_crop(read_image(encoded[next(turn) % len(encoded)]), image_size)

    bare_rates, rates = [], []
    for _ in range(ROUNDS):
        settle()
        bare_rates.append(rate(bare, BATCH, seconds / ROUNDS))
        for _ in range(4 * num_threads + 4):  # start with empty buffers, as they will be at the end
            next(batches)
        rates.append(rate(lambda: next(batches), 2 * BATCH, seconds / ROUNDS))
    bare_rate, pipeline_rate = float(np.median(bare_rates)), float(np.median(rates))
    return {
        "image_size": image_size,
        "mean_bytes": int(np.mean([len(data) for data in encoded])),
        "pictures_per_core_second": round(pipeline_rate, 1),
        "bare_decode_resize_per_core_second": round(bare_rate, 1),
        "share_of_bare": round(pipeline_rate / bare_rate, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="per source and kind of rate")
    parser.add_argument("--num_threads", type=int, default=2)
    args = parser.parse_args()
    options = dict(num_threads=args.num_threads, seconds=args.seconds)
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        bar = tqdm(total=3, file=sys.stderr)
        bar.set_description("64 px PNG")
        source = open_source("avatars", split="train", image_size=64, data_dir=temporary,
                             avatars_examples=(400, 1, 1))  # fmt: skip
        encoded = [
            cv2.imencode(".png", render(sample_attributes("train", i), 64)[..., ::-1])[1].tobytes()
            for i in range(200)
        ]
        results["png_64_array_record"] = measure(source, encoded, image_size=64, **options)
        bar.update()
        for side, count in ((256, 200), (1024, 40)):
            bar.set_description(f"{side} px JPEG")
            folder = Path(temporary) / str(side) / "train"
            write_jpegs(folder, side=side, count=count)
            source = FolderSource(folder.parent, split="train")
            encoded = [path.read_bytes() for path in source.paths]
            results[f"jpeg_{side}_folder"] = measure(source, encoded, image_size=256, **options)
            bar.update()
        bar.close()
    report = {
        "benchmark": "input_pipeline",
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },  # fmt: skip
        "num_threads": args.num_threads,
        "results": results,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
