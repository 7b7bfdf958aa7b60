"""Stopping in good order when a cluster takes its machines back."""

from __future__ import annotations

import signal
import threading
from typing import Any

import jax
from jax.experimental import multihost_utils


class PreemptionNotice:
    """Within its `with` block, SIGTERM is a request to stop and not an end."""

    def __init__(self) -> None:
        self._told = False
        self._previous: Any = None

    def __enter__(self) -> PreemptionNotice:
        # With several processes, JAX's own service catches the signal and tells all of them.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def received(self, step: int) -> bool:
        """Whether to stop after this step: the same answer in every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._told

    def _on_signal(self, *_: object) -> None:
        self._told = True
