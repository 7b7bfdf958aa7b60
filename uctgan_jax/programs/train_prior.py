"""Trains a prior for a finished model:

    python train_prior.py --config=configs/prior.py --model=MODEL --workdir=DIR

MODEL is the workdir of a run of `train.py`, a folder of weights or the name of a bundled model. DIR
gets a whole model with the learned prior. All else is as for `train.py`.

Without a checkout the program is `uctgan-train-prior`.
"""

from absl import flags

from uctgan_jax import command_line

FLAGS = flags.FlagValues()
_CONFIG, _WORKDIR = command_line.define_training_flags(FLAGS)
_MODEL = command_line.define_path(
    "model", None, "The model that the prior is for.", FLAGS, required=True
)


def main() -> None:
    command_line.run(_train_prior, FLAGS)


def _train_prior() -> None:
    with command_line.training(FLAGS):
        from uctgan_jax.prior.training import train_prior

        train_prior(_CONFIG.value, _MODEL.value, _WORKDIR.value)
