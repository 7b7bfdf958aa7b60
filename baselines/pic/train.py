"""Trains PIC: `python -m baselines.pic.train --config=baselines/pic/config.py --workdir=DIR`.

All else is as for `train.py`.
"""

from absl import flags

from uctgan_jax import command_line

FLAGS = flags.FlagValues()
_CONFIG, _WORKDIR = command_line.define_training_flags(FLAGS)


def main() -> None:
    command_line.run(_train, FLAGS)


def _train() -> None:
    with command_line.training(FLAGS):
        from baselines.pic.training import train

        train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    main()
