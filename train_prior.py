"""Trains a prior for a finished model:

    python train_prior.py --config=configs/prior.py --model=MODEL --workdir=DIR

MODEL is the workdir of a run of `train.py`, a folder of weights or the name of a bundled model. DIR
gets a whole model with the learned prior. All else is as for `train.py`.
"""

from absl import flags
from ml_collections import config_flags

from uctgan_jax import command_line
from uctgan_jax.files import typed_path

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration of the run.")
_MODEL = flags.DEFINE_string("model", None, "The model that the prior is for.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and samples.")
command_line.define_process_flags()


def main(argv: list[str]) -> None:
    with command_line.training():
        from uctgan_jax.prior.training import train_prior

        train_prior(_CONFIG.value, typed_path(_MODEL.value), typed_path(_WORKDIR.value))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "model", "workdir"])
    command_line.run(main)
