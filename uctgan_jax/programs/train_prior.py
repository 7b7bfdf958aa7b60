"""Trains a prior for a finished model:

    python train_prior.py --config=configs/prior.py --model=MODEL --workdir=DIR

MODEL is the workdir of a run of `train.py`, a folder of weights or the name of a bundled model. DIR
gets a whole model with the learned prior. All else is as for `train.py`.

Without a checkout the program is `uctgan-train-prior`.
"""

from absl import flags

from uctgan_jax import command_line

FLAGS = flags.FlagValues()
_CONFIG = command_line.define_config("The configuration of the run.", FLAGS, required=True)
_MODEL = command_line.define_path(
    "model", None, "The model that the prior is for.", FLAGS, required=True
)
_WORKDIR = command_line.define_path(
    "workdir", None, "Folder of checkpoints, logs and samples.", FLAGS, required=True
)
command_line.define_process_flags(FLAGS)


def main() -> None:
    command_line.run(_train_prior, FLAGS)


def _train_prior() -> None:
    with command_line.training(FLAGS):
        from uctgan_jax.prior.training import train_prior

        train_prior(_CONFIG.value, _MODEL.value, _WORKDIR.value)
