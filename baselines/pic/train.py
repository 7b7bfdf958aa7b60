"""Trains PIC: `python -m baselines.pic.train --config=baselines/pic/config.py --workdir=DIR`.

All else is as for `train.py`.
"""

from absl import flags

from uctgan_jax import command_line

FLAGS = flags.FlagValues()
_CONFIG = command_line.define_config("The configuration of the run.", FLAGS, required=True)
_WORKDIR = command_line.define_path(
    "workdir", None, "Folder of checkpoints, logs and samples.", FLAGS, required=True
)
command_line.define_process_flags(FLAGS)


def main() -> None:
    command_line.run(_train, FLAGS)


def _train() -> None:
    with command_line.training(FLAGS):
        from baselines.pic.training import train

        train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    main()
