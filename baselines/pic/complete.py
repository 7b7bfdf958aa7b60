"""Writes PIC's completions of a split's pictures as `evaluate.py --compare=FOLDER` reads them.

    python -m baselines.pic.complete --workdir=DIR --output=FOLDER

Pictures, holes and counts are those of the run's config (`eval`). They have to be those that
`evaluate.py` measures on: same source, same masks, same `eval.seed`, and both counts. For the table
of `benchmarks.photographs` give `--centre_hole --num_samples=8`.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from baselines.pic.sampling import complete
from baselines.pic.training import make_networks
from uctgan_jax import compilation_cache, cpu_flags, training
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.evaluation.compare import picture_name
from uctgan_jax.images import write_image
from uctgan_jax.saved_models import read_model

PyTree = Any


def write_completions(
    config: ml_collections.ConfigDict, params: PyTree, folder: Path, split: str
) -> None:
    """Completes the first `eval.num_examples` pictures of a split, `eval.num_samples` times each.

    Args:
        config: of the run.
        params: of the model.
        folder: gets `NAME_000.png`, `NAME_001.png` ... of each picture; made if need be.
        split: "train", "validation" or "test".
    """
    source = training.open_split(config, split)
    batches = eval_batches(
        source,
        image_size=config.image_size,
        batch_size=config.eval.batch_size,
        masks=MaskOptions(**config.mask),
        seed=config.eval.seed,
        num_examples=config.eval.num_examples,
    )
    networks = make_networks(config)
    base = jax.random.key(config.eval.seed)
    # Fewer pictures in the last batch are another program: a small one.
    draw = jax.jit(functools.partial(complete, networks), static_argnames="num_samples")
    num_examples = min(config.eval.num_examples, len(source))
    with tqdm(total=num_examples, desc="complete", unit="picture") as progress:
        for batch in batches:
            # A picture's draws follow from its place in the split alone.
            keys = jax.vmap(jax.random.fold_in, (None, 0))(base, batch["index"])
            completions = draw(
                params, batch["image"], batch["mask"], keys, num_samples=config.eval.num_samples
            )
            for index, row in zip(batch["index"], np.asarray(completions), strict=True):
                for number, picture in enumerate(row):
                    write_image(folder / f"{picture_name(index)}_{number:03d}.png", picture)
                progress.update()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="folder of the training run")
    parser.add_argument("--output", required=True, type=Path, help="folder for the completions")
    parser.add_argument("--split", default="test", choices=["train", "validation", "test"])
    parser.add_argument("--step", type=int, help="of the checkpoint; by default the newest")
    parser.add_argument("--source", help="other pictures, as folder:PATH")
    parser.add_argument("--num_examples", type=int, help="pictures, from the first on")
    parser.add_argument("--num_samples", type=int, help="completions of each")
    parser.add_argument("--centre_hole", action="store_true", help="of half the side, in all")
    args = parser.parse_args()
    cpu_flags.set_best()
    compilation_cache.enable()
    params, saved, step, _ = read_model(args.workdir, args.step)
    config = ml_collections.ConfigDict(saved)
    config.data.source = args.source or config.data.source
    config.eval.num_examples = args.num_examples or config.eval.num_examples
    config.eval.num_samples = args.num_samples or config.eval.num_samples
    if args.centre_hole:
        config.mask.update(kind="center", hole_share=(0.25, 0.25))
    write_completions(config, params, args.output, args.split)
    print(f"completions by step {step} of {args.workdir} are in {args.output}")


if __name__ == "__main__":
    main()
