"""The loop of both trainings: steps, logs, validation and checkpoints."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from uctgan_jax.metrics_log import MetricsLog
from uctgan_jax.run import Run, say

PyTree = Any
Step = Callable[[PyTree, Mapping[str, jax.Array]], tuple[PyTree, Mapping[str, jax.Array]]]


class NonFiniteError(RuntimeError):
    """Losses or gradients were not finite for too many steps in a row."""


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a training does between its steps. States are numpy trees on the host.

    Attributes:
      validate: `validate(state, draw) -> figures`, to log; with `draw` it also draws a sheet.
      save: `save(state, figures)` starts saving a checkpoint.
      shown: the metric that the progress bar shows.
    """

    validate: Callable[[PyTree, bool], dict[str, float]]
    save: Callable[[PyTree, Mapping[str, float]], None]
    shown: str


def fit(
    run: Run,
    step_at: Callable[[int], Step],
    state: PyTree,
    batches: Iterator[Mapping[str, jax.Array]],
    hooks: Hooks,
    *,
    first_step: int,
) -> PyTree:
    """Takes the steps of a run after `first_step`.

    Args:
      run: its config says how many steps there are, and when to log, validate and save.
      step_at: the compiled step to take at a number, counted from 1.
      state: on the devices, with `nonfinite_steps`; its buffers are donated.
      batches: on the devices, beginning with that of the next step.
      hooks: see `Hooks`.
      first_step: steps that were taken before.

    Returns:
      The last state, on the devices.

    Raises:
      NonFiniteError: after `config.max_nonfinite_steps` non-finite steps in a row.
    """
    config, last = run.config, run.config.num_train_steps
    with (
        MetricsLog(run.workdir, first_step=first_step, fetch=run.parallel.fetch) as log,
        _progress_bar(first_step, last) as progress,
    ):
        batches = log.timed(batches)
        run.preemption.steps_begin()
        for step in range(first_step + 1, last + 1):
            state, metrics = step_at(step)(state, next(batches))
            log.add(metrics, config.batch_size)
            progress.update()
            preempted = run.preemption.received(step)
            ends = preempted or step == last
            draws, saves = (
                ends or step % every == 0
                for every in (config.sample_every_steps, config.checkpoint_every_steps)
            )
            figures = {}
            if draws or saves:
                host_state = run.parallel.fetch(state)
                if not preempted:  # There may be seconds left to save in.
                    with log.paused():
                        figures = hooks.validate(host_state, draws)
                    for name, figure in figures.items():
                        log.note(f"held_out/{name}", figure)
            if ends or step % config.log_every_steps == 0:
                record = log.write(step)
                progress.set_postfix_str(_postfix(record, hooks.shown), refresh=False)
                _check_finite(run, state, record)
            # After a step that was not finite, a resume needs the checkpoint before it.
            if ends or (saves and not host_state.nonfinite_steps):
                hooks.save(host_state, figures)
            if preempted:
                say(f"told to stop: saving step {step}, ending")
                break
    return state


def _progress_bar(first_step: int, num_train_steps: int) -> tqdm:
    return tqdm(
        total=num_train_steps,
        initial=first_step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 10,  # a log file is not to be flooded
        disable=jax.process_index() != 0,
    )


def _postfix(record: Mapping[str, float], shown: str) -> str:
    return (
        f"{record['images_per_sec']:.1f} pictures/s, {shown} {record[shown]:.3f},"
        f" data wait {record['data_wait_fraction']:.0%}"
    )


def _check_finite(run: Run, state: PyTree, record: Mapping[str, float]) -> None:
    in_a_row = int(run.parallel.fetch(state.nonfinite_steps))
    if in_a_row < run.config.max_nonfinite_steps:
        return
    names = [name for name, value in record.items() if not np.isfinite(value)]
    raise NonFiniteError(
        f"step {record['step']}: the last {in_a_row} steps were not finite"
        f" ({', '.join(names) or 'gradients'}) and changed nothing. Look at the data, or try a"
        " lower learning rate (optimizer.*learning_rate), or float32 if compute_dtype is another:"
        " started again, the run goes on from its last checkpoint, which was saved before"
    )
