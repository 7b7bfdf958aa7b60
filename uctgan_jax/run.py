"""A run and its folder: one run at a time, one config, checkpoints, stopping in good order."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections

from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.config import check_same_run, config_dict
from uctgan_jax.files import held_alone, make_writable, write_text
from uctgan_jax.parallel import DataParallel
from uctgan_jax.preemption import PreemptionNotice


@dataclasses.dataclass(frozen=True)
class Run:
    """What a training program works with, besides its state.

    Attributes:
      workdir: the folder of the run.
      config: of the run.
      parallel: the devices.
      checkpoints: in `workdir/checkpoints`.
      preemption: tells when to stop.
    """

    workdir: Path
    config: ml_collections.ConfigDict
    parallel: DataParallel
    checkpoints: Checkpoints
    preemption: PreemptionNotice


def prepare_workdir(workdir: Path, config: ml_collections.ConfigDict) -> bool:
    """Makes the folder, tries it, and holds the config against that of an earlier run in it.

    Returns:
      Whether there are checkpoints to go on from.

    Raises:
      OSError: if it cannot be written.
      ConfigMismatchError: if it holds a run of another config.
    """
    make_writable(workdir)
    folders = (workdir / "checkpoints").glob("*")
    steps = [int(folder.name) for folder in folders if folder.name.isdecimal()]
    check_same_run(workdir, config, steps)
    return bool(steps)


@contextlib.contextmanager
def open_run(
    workdir: Path, config: ml_collections.ConfigDict, parallel: DataParallel
) -> Iterator[Run]:
    """A run in a folder that `prepare_workdir` has found fit, with its `config.json` written.

    Raises:
      ValueError: if another run goes on there: the two would overwrite each other's files.
    """
    busy = f"another run is going on in {workdir}: wait for its end, or choose another workdir"
    first = jax.process_index() == 0
    # The first process holds the folder for all. The notice outlives the checkpoints: told to stop
    # while the last one is written, it is written all the same.
    with (
        held_alone(workdir / "lock", busy=busy) if first else contextlib.nullcontext(),
        PreemptionNotice() as preemption,
        Checkpoints(workdir / "checkpoints") as checkpoints,
    ):
        if first:
            write_text(workdir / "config.json", json.dumps(config_dict(config), indent=2) + "\n")
        yield Run(workdir, config, parallel, checkpoints, preemption)


def say(message: str) -> None:
    """Prints, once for all processes."""
    if jax.process_index() == 0:
        print(message, flush=True)


def say_if_done(config: ml_collections.ConfigDict, step: int) -> None:
    """Says that a run has come to its end, when its last checkpoint is written."""
    if step == config.num_train_steps:
        say(f"all {step} steps are done")
