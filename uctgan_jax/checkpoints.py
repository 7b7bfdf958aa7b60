"""Checkpoints: state, averaged parameters and config, with digests that tell damage.

A checkpoint is `DIRECTORY/<step>/` with four Orbax items: `model` (what inference needs: averaged
parameters of E1, E2, G and a learned prior, and D, which ranks completions), `state` (the rest of
the train state), `config`, and `digests` (SHA-256 over the arrays of the first two). The position
in the data is the step itself.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from uctgan_jax import quiet
from uctgan_jax.parallel import wait_for_processes
from uctgan_jax.weights import DamagedCheckpointError, OtherNetworksError, check_structure, digest

PyTree = Any

_KEPT = 2  # of the newest, besides the best
_SECOND_TRY_SECONDS = 1.0  # after a read that failed: network file systems have bad moments


class NotSavedError(OSError):
    """A checkpoint could not be written, as on a full disk."""


class Checkpoints:
    """The checkpoints of one run.

    Saving goes on in the background: its errors come up at the next save, or at the end.
    """

    def __init__(self, directory: str | Path, *, read_only: bool = False):
        """Opens a folder of checkpoints, or makes one.

        Args:
          directory: the folder.
          read_only: neither make the folder nor tidy it: its run may be under way.
        """
        self.directory = Path(directory).absolute()
        # Of a save that failed `NotSavedError` says all there is to say.
        quiet.drop_records("absl", source="orbax")
        # Orbax warns of what `read_only` asks for.
        with quiet.errors_alone("absl") if read_only else contextlib.nullcontext():
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=checkpoint_managers.AnyPreservationPolicy(
                        [
                            checkpoint_managers.LatestN(_KEPT),
                            # What a kill in the middle of deleting left has no metrics.
                            checkpoint_managers.BestN(
                                get_metric_fn=_merit, n=1, keep_checkpoints_without_metrics=False
                            ),
                        ]
                    ),
                    best_fn=_merit,  # without it Orbax forgets metrics between processes
                    create=not read_only,
                    cleanup_tmp_directories=not read_only,
                    read_only=read_only,
                ),
            )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except NotSavedError:
            if kind is None:  # else the first error says enough
                raise

    def save(
        self, step: int, model: PyTree, state: PyTree, config: Mapping[str, Any], error: float
    ) -> None:
        """Starts saving a checkpoint and returns.

        Args:
          step: of the run.
          model: what inference needs, numpy arrays.
          state: what else a resume needs, numpy arrays.
          config: as JSON can hold it.
          error: what the best checkpoint has least of; one that is not finite counts as worst.

        Raises:
          ValueError: if there is a checkpoint of this step or a later one.
          NotSavedError: if this one, or the one before, cannot be written.
        """
        items = ocp.args.Composite(
            model=ocp.args.StandardSave(model),
            state=ocp.args.StandardSave(state),
            config=ocp.args.JsonSave(dict(config)),
            digests=ocp.args.JsonSave({"model": digest(model), "state": digest(state)}),
        )
        metrics = {"error": error if np.isfinite(error) else sys.float_info.max}
        with self._saving():
            saves = self._manager.save(step, metrics=metrics, args=items)
        if not saves:
            raise ValueError(
                f"step {step} cannot be saved in {self.directory}, which has steps {self.steps()}"
            )

    def steps(self) -> list[int]:
        """The steps there are checkpoints of, the oldest first."""
        return sorted(self._manager.all_steps())

    def restore_latest(self, model: PyTree, state: PyTree) -> tuple[PyTree, PyTree] | None:
        """The newest undamaged model and state, as numpy arrays; None without any checkpoint.

        Damaged ones that are newer are set aside, as `<step>.damaged`: their steps come again. All
        processes call this, read for themselves and go on together: none is damaged that one of
        them can read.

        Args:
          model, state: trees of the shapes and types to expect.

        Raises:
          DamagedCheckpointError: if there are checkpoints, but every one is damaged.
          OtherNetworksError: if one is of other networks or optimisers.
          OSError: if one may not be read, or cannot be by some of the processes.
        """
        items = jax.tree.map(_numpy_template, {"model": model, "state": state})
        damaged = []
        for step in reversed(self.steps()):
            problem = None
            try:
                restored = self._restore(step, items)
            except Exception as error:  # The other processes are to hear of it first.
                problem = error
            can_read = _from_all_processes(problem is None, name=f"step {step} read")
            if problem and not isinstance(problem, DamagedCheckpointError):
                raise problem
            if can_read.any() and not can_read.all():
                raise OSError(
                    f"checkpoint {self.directory / str(step)} can be read by some processes, but"
                    f" not by {np.flatnonzero(~can_read).tolist()}, so it is not damaged"
                ) from problem
            if problem:
                logging.warning("%s; trying the one before it", problem)
                damaged.append(step)
                continue
            if damaged:
                self._set_aside(damaged)
            return restored["model"], restored["state"]
        if damaged:
            raise DamagedCheckpointError(
                f"every checkpoint in {self.directory} is damaged: steps {damaged}"
            )
        return None

    def _set_aside(self, steps: list[int]) -> None:
        """Renames checkpoints, when all processes have done with them."""
        wait_for_processes("restored")
        if jax.process_index() == 0:
            for step in steps:
                folder = self.directory / str(step)
                folder.replace(_free_name(folder.with_name(f"{step}.damaged")))
        wait_for_processes("damaged checkpoints set aside")
        self._manager.reload()

    def restore_model(self, step: int | None = None) -> tuple[int, PyTree, dict[str, Any], str]:
        """What inference needs.

        Args:
          step: which checkpoint; None for the newest.

        Returns:
          The step, the model as numpy arrays, the config, and the model's digest.

        Raises:
          FileNotFoundError: if there is no such checkpoint.
          DamagedCheckpointError: if it is damaged.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            wanted = "checkpoint" if step is None else f"checkpoint of step {step}"
            raise FileNotFoundError(f"no {wanted} in {self.directory}; it has steps {steps}")
        step = steps[-1] if step is None else step
        restored = self._restore(step, {"model": None})
        return step, restored["model"], restored["config"], restored["digests"]["model"]

    def close(self) -> None:
        """Waits for pending saves and lets the folder go.

        Raises:
          NotSavedError: if the last checkpoint could not be written.
        """
        with self._saving():
            self._manager.wait_until_finished()
            self._manager.close()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Turns what Orbax raises of a save into one line that says which checkpoint is left."""
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise many kinds.
            folders = self.directory.glob("*")
            steps = sorted(int(folder.name) for folder in folders if folder.name.isdecimal())
            left = f"the newest sound one is of step {steps[-1]}" if steps else "there is none yet"
            cause = "no space is left" if "RESOURCE_EXHAUSTED" in str(error) else str(error)
            raise NotSavedError(
                f"a checkpoint could not be saved in {self.directory} ({cause}); {left}, and a run"
                " started again goes on from there"
            ) from error

    def _restore(self, step: int, items: Mapping[str, PyTree | None]) -> dict[str, PyTree]:
        """Reads items of one checkpoint, its config, and its digests, which they are held against.

        An item of another structure than it should have is not damaged: `OtherNetworksError`. Nor
        is one that there is no permission or no memory to read.
        """
        folder = self.directory / str(step)
        for last_try in (False, True):
            try:
                restored = _read(folder, items)
                break
            except (OtherNetworksError, PermissionError, MemoryError):
                raise
            except Exception as error:  # Orbax and TensorStore raise many kinds.
                message = f"checkpoint {folder} cannot be read ({error})"
                if last_try:
                    raise DamagedCheckpointError(message) from error
                logging.warning("%s; once more", message)
                time.sleep(_SECOND_TRY_SECONDS)
        for name in items:
            if digest(restored[name]) != restored["digests"][name]:
                raise DamagedCheckpointError(
                    f"checkpoint {folder} is damaged: the arrays of {name!r} are not those that"
                    " were saved"
                )
        return restored


def _read(folder: Path, items: Mapping[str, PyTree | None]) -> dict[str, PyTree]:
    """Items, config and digests, by Orbax's handlers: its manager would wait for all processes."""
    arrays, texts = ocp.StandardCheckpointHandler(), ocp.JsonCheckpointHandler()
    read = {}
    for name, item in items.items():
        if item is not None:
            source = f"the {name} of checkpoint {folder}"
            check_structure(arrays.metadata(folder / name).tree, item, source=source)
        read[name] = arrays.restore(folder / name, args=ocp.args.StandardRestore(item))
    for name in ("config", "digests"):
        read[name] = texts.restore(folder / name, args=ocp.args.JsonRestore())
    return read


def _from_all_processes(flag: bool, *, name: str) -> np.ndarray:
    """Every process's `flag`, [number of processes], when all have come here."""
    wait_for_processes(name)
    return np.atleast_1d(multihost_utils.process_allgather(np.array(flag)))


def _free_name(folder: Path) -> Path:
    """`folder`, or the first of `folder.1`, `folder.2` ... that is not there."""
    names = itertools.chain([folder.name], (f"{folder.name}.{i}" for i in itertools.count(1)))
    return next(path for path in map(folder.with_name, names) if not path.exists())


def _merit(metrics: Mapping[str, float]) -> float:
    """What Orbax sorts by; it calls the last the best."""
    return -metrics["error"]


def _numpy_template(leaf: Any) -> np.ndarray:
    return np.empty(np.shape(leaf), leaf.dtype)
