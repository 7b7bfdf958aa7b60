"""Writes PIC's completions of a split's pictures as `evaluate.py --compare=FOLDER` reads them.

    python -m baselines.pic.complete --workdir=DIR --output=FOLDER

Pictures, holes and counts are those of the run's config (`eval`). They have to be those that
`evaluate.py` measures on: same source, same masks, same `eval.seed`, and both counts.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import flags
from tqdm import tqdm

from baselines.pic.sampling import complete
from baselines.pic.training import make_networks
from uctgan_jax import command_line, training
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.evaluation.compare import picture_name
from uctgan_jax.images import write_image
from uctgan_jax.saved_models import read_model

PyTree = Any

FLAGS = flags.FlagValues()
_WORKDIR = command_line.define_path(
    "workdir", None, "Folder of the training run.", FLAGS, required=True
)
_OUTPUT = command_line.define_path(
    "output", None, "Folder for the completions.", FLAGS, required=True
)
_SPLIT = flags.DEFINE_enum(
    "split", "test", ["test", "validation", "train"], "Whose pictures.", flag_values=FLAGS
)
_STEP = flags.DEFINE_integer(
    "step", None, "Of the checkpoint; by default the newest.", flag_values=FLAGS
)
_SOURCE = flags.DEFINE_string("source", None, "Other pictures, as folder:PATH.", flag_values=FLAGS)
_NUM_EXAMPLES = flags.DEFINE_integer(
    "num_examples", None, "Pictures, from the first on.", lower_bound=1, flag_values=FLAGS
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", None, "Completions of each.", lower_bound=1, flag_values=FLAGS
)
_CENTRE_HOLE = flags.DEFINE_bool(
    "centre_hole", False, "A hole of half the side in the middle of all.", flag_values=FLAGS
)


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
    command_line.run(_complete, FLAGS)


def _complete() -> None:
    command_line.prepare_jax()
    params, saved, step, _ = read_model(_WORKDIR.value, _STEP.value)
    config = ml_collections.ConfigDict(saved)
    config.data.source = _SOURCE.value or config.data.source
    config.eval.num_examples = _NUM_EXAMPLES.value or config.eval.num_examples
    config.eval.num_samples = _NUM_SAMPLES.value or config.eval.num_samples
    if _CENTRE_HOLE.value:
        config.mask.update(kind="center", hole_share=(0.25, 0.25))
    write_completions(config, params, _OUTPUT.value, _SPLIT.value)
    print(f"completions by step {step} of {_WORKDIR.value} are in {_OUTPUT.value}")


if __name__ == "__main__":
    main()
