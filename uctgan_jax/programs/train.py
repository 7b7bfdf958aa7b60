"""Trains UCTGAN:

    python train.py --config=configs/paper.py --workdir=DIR --config.data.source=folder:PATH

Each field of the config can be changed by `--config.FIELD=VALUE`. Started again with the same
workdir, training goes on from the newest checkpoint. On several hosts every one of them runs this
command, with `--distributed` where the environment names the others (TPU pods, SLURM), else with
`--coordinator_address`, `--num_processes` and `--process_id`.

Without a checkout the program is `uctgan-train`, with the same flags and configs.
"""

from absl import flags

from uctgan_jax import command_line

FLAGS = flags.FlagValues()
_CONFIG, _WORKDIR = command_line.define_training_flags(FLAGS)


def main() -> None:
    command_line.run(_train, FLAGS)


def _train() -> None:
    with command_line.training(FLAGS):
        from uctgan_jax.training import train

        train(_CONFIG.value, _WORKDIR.value)
