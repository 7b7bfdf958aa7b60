"""Stopping in good order: when a cluster takes its machines back, and on Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils

_STOPPED = 130  # exit status of a program that Ctrl-C ended


class PreemptionNotice:
    """Within its `with` block, SIGTERM and Ctrl-C are requests to stop and not an end.

    A second Ctrl-C ends the program at once. So does the first before `steps_begin`: there is
    nothing to save yet, and a program that compiles would go on for minutes.
    """

    def __init__(self) -> None:
        self._told = False
        self._saves = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> PreemptionNotice:
        if threading.current_thread() is not threading.main_thread():
            return self
        # With several processes, JAX's own service catches SIGTERM and tells all of them; Ctrl-C
        # ends them as it ends any program.
        if jax.process_count() == 1:
            self._previous = {
                signal.SIGINT: signal.signal(signal.SIGINT, self._on_interrupt),
                signal.SIGTERM: signal.signal(signal.SIGTERM, self._on_terminate),
            }
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def steps_begin(self) -> None:
        """From now on there is something to save before stopping."""
        self._saves = True

    def received(self, step: int) -> bool:
        """Whether to stop after this step: the same answer in every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._told

    def _on_terminate(self, *_: object) -> None:
        self._told = True

    def _on_interrupt(self, *_: object) -> None:
        if self._told or not self._saves:
            message = "stopped at once: no step of this run is lost that was saved"
            os.write(sys.stderr.fileno(), f"\n{message}\n".encode())
            os._exit(_STOPPED)
        self._told = True
        os.write(
            sys.stderr.fileno(),
            b"\nCtrl-C: ending after this step, with a checkpoint; once more ends at once\n",
        )
