"""How fast pictures become batches, beside bare decoding and resizing: JSON on stdout.

    python -m benchmarks.input_pipeline [--seconds=3] [--num_threads=2]

Three sources: 64 px PNG in ArrayRecord (avatars), 256 px JPEG and 1024 px JPEG in folders (read at
256 px; synthetic scenes of smooth shapes and grain, JPEG quality 90). An example holds two pictures
(picture and instance) and a free-form mask. Rates are a second of processor time, summed over
threads: what one core delivers, whatever else the machine does. For each source, medians of:

- bare: pictures decoded from memory and resized, with the same functions, in one thread.
- decoded: pictures that the pipeline reads from disk and decodes. share_of_bare is this over bare:
  what is left goes into reading, masks, instances, flips and batches.
- delivered: pictures in the batches. Two an example, though each is decoded once.

Bare decoding and the pipeline take turns, so that both see the same other load.
"""

import itertools
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from tqdm import tqdm

from uctgan_jax import command_line
from uctgan_jax.avatars.dataset import render, sample_attributes
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import train_batches
from uctgan_jax.data.sources import FolderSource, Source, open_source
from uctgan_jax.images import read_image, resize_and_crop

FLAGS = flags.FlagValues()
_SECONDS = flags.DEFINE_float("seconds", 3.0, "Per source and kind of rate.", flag_values=FLAGS)
_NUM_THREADS = flags.DEFINE_integer("num_threads", 2, "Of the input pipeline.", flag_values=FLAGS)

BATCH = 64
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


class Counted:
    """A source that counts the pictures that are read."""

    def __init__(self, source: Source):
        self._source = source
        self._counter = itertools.count()  # several threads read
        self.name, self.keys = source.name, source.keys

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, i: int) -> np.ndarray:
        next(self._counter)
        return self._source[i]

    def reads(self) -> int:
        """How many since the last call."""
        done, self._counter = next(self._counter), itertools.count()
        return done


def settle() -> float:
    """Wait until threads have filled their buffers; the processor time used so far."""
    used = -1.0
    while time.process_time() - used > 0.003:
        used = time.process_time()
        time.sleep(0.5)
    return time.process_time()


def measure(
    source: Source, encoded: list[bytes], *, image_size: int, num_threads: int, seconds: float
) -> dict:
    """The rates of one source: `encoded` holds some of its pictures."""
    source = Counted(source)
    batches = train_batches(
        source,
        image_size=image_size,
        batch_size=BATCH,
        masks=MaskOptions("free_form", hole_share=(0.1, 0.4)),
        flip=True,
        seed=0,
        num_threads=num_threads,
    )
    next(batches)
    rates = []
    for _ in range(ROUNDS):
        start, end, bare = settle(), time.perf_counter() + seconds / ROUNDS, 0
        while time.perf_counter() < end:
            resize_and_crop(read_image(encoded[bare % len(encoded)]), image_size)
            bare += 1
        bare /= time.process_time() - start
        # As many batches are made as are taken: buffers are full before and after.
        source.reads()
        start, end, taken = settle(), time.perf_counter() + seconds / ROUNDS, 0
        while time.perf_counter() < end:
            next(batches)
            taken += 1
        used = settle() - start
        decoded = source.reads() / used
        rates.append((bare, decoded, 2 * taken * BATCH / used, decoded / bare))
    bare, decoded, delivered, share = np.median(rates, axis=0)
    return {
        "image_size": image_size,
        "mean_bytes": int(np.mean([len(data) for data in encoded])),
        "bare_per_core_second": round(bare, 1),
        "decoded_per_core_second": round(decoded, 1),
        "share_of_bare": round(share, 3),
        "delivered_per_core_second": round(delivered, 1),
    }


def main() -> None:
    options = dict(num_threads=_NUM_THREADS.value, seconds=_SECONDS.value)
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
        for side, count in ((256, 200), (1024, 100)):
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
        "num_threads": _NUM_THREADS.value,
        "results": results,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    command_line.run(main, FLAGS)
