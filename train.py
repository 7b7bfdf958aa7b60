"""Trains UCTGAN: `python train.py --config=configs/avatars64.py --workdir=DIR`.

Started again with the same workdir, it goes on from the newest checkpoint.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from uctgan_jax import compilation_cache

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration of the run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and samples.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)
    compilation_cache.enable()
    from uctgan_jax import training

    try:
        training.train(_CONFIG.value, _WORKDIR.value)
    except (ValueError, OSError, training.NonFiniteError) as error:
        raise SystemExit(f"train.py: {error}") from error


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
