"""Trains PIC: `python -m baselines.pic.train --config=baselines/pic/config.py --workdir=DIR`.

All else is as for `train.py`.
"""

from absl import app, flags
from ml_collections import config_flags

from uctgan_jax import command_line

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration of the run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and samples.")
command_line.define_process_flags()


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    with command_line.training():
        from baselines.pic.training import train

        train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.run(main)
