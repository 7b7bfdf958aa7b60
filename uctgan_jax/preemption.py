"""Stopping in good order: when a cluster takes its machines back, and on Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

_STDERR = 2  # its number: a signal may come in the middle of a print
_STOPPED = 130  # exit status of a program that Ctrl-C ended


class PreemptionNotice:
    """From `steps_begin` to the end of its `with` block, SIGTERM and Ctrl-C ask to stop.

    A second Ctrl-C ends the program at once. So does either before `steps_begin`: there is nothing
    to save yet, and a program that compiles or encodes pictures would go on for minutes.
    """

    def __init__(self) -> None:
        self._told = False
        self._saves = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> PreemptionNotice:
        self._handle(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def steps_begin(self) -> None:
        """From now on there is something to save before stopping."""
        self._saves = True
        self._handle(signal.SIGTERM, self._on_terminate)

    def _handle(self, number: int, handler: Any) -> None:
        # With several processes, JAX's own service catches SIGTERM and tells all of them; Ctrl-C
        # ends them as it ends any program. Signals of other threads' programs are not ours.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous[number] = signal.signal(number, handler)

    def received(self, step: int) -> bool:
        """Whether to stop after this step: the same answer in every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._told

    def _on_terminate(self, *_: object) -> None:
        self._told = True

    def _on_interrupt(self, *_: object) -> None:
        if self._told or not self._saves:
            os.write(_STDERR, b"\nstopped at once: what was saved stays\n")
            os._exit(_STOPPED)
        self._told = True
        os.write(_STDERR, b"\nCtrl-C: ending after this step, with a checkpoint; again: at once\n")
