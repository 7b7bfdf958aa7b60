"""Trains UCTGAN: `python train.py --config=configs/avatars32.py --workdir=DIR`.

Started again with the same workdir, it goes on from the newest checkpoint. On several hosts every
one of them runs this command, with `--distributed` where the environment names the others (TPU
pods, SLURM), else with `--coordinator_address`, `--num_processes` and `--process_id`.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from uctgan_jax import command_line, compilation_cache, parallel, training

_CONFIG = config_flags.DEFINE_config_file("config", None, "The configuration of the run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, logs and samples.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes.")
_COORDINATOR = flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes there are.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which process this is, from 0.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)
    compilation_cache.enable()
    processes = (_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    try:
        if _DISTRIBUTED.value or any(value is not None for value in processes):
            parallel.initialize_processes(*processes)
        training.train(_CONFIG.value, _WORKDIR.value)
    except (ValueError, OSError, training.NonFiniteError) as error:
        raise SystemExit(f"train.py: {error}") from error


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    command_line.run(main)
