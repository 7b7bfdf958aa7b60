"""Trains UCTGAN: `python train.py --config=configs/paper.py --workdir=DIR`.

Started again with the same workdir, it goes on from the newest checkpoint. On several hosts every
one of them runs this command, with `--distributed` where the environment names the others (TPU
pods, SLURM), else with `--coordinator_address`, `--num_processes` and `--process_id`.
"""

from absl import flags
from ml_collections import config_flags

from uctgan_jax import command_line
from uctgan_jax.files import typed_path

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration of the run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and samples.")
command_line.define_process_flags()


def main(argv: list[str]) -> None:
    with command_line.training():
        from uctgan_jax.training import train

        train(_CONFIG.value, typed_path(_WORKDIR.value))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.run(main)
