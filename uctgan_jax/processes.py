"""A run on several processes: each does its share, and they end together.

Where there is one process, nothing here does anything: the packages of training are not imported.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import jax
import numpy as np

_STOPPED = 130  # exit status of a program that Ctrl-C ended
_SHARE_HOURS = 7 * 24  # how much longer than another's a process's share may take


def are_several() -> bool:
    """Whether this run has other processes; looks for no device where it has none."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def gather(name: str, value: Any) -> list[Any]:
    """Every process's value, in their order, in all processes. They wait for each other.

    Args:
        name: of the place; the same in all processes.
        value: what JSON can hold.

    Raises:
        OSError: if another process has died.
    """
    if not are_several():
        return [value]
    from jax.experimental import multihost_utils

    _wait(name)
    data = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(data)))
    rows = multihost_utils.process_allgather(np.pad(data, (0, sizes.max() - len(data))))
    return [json.loads(row[:size].tobytes()) for row, size in zip(rows, sizes, strict=True)]


def _wait(name: str) -> None:
    from uctgan_jax.parallel import wait_for_processes

    # In a thread: JAX's own waiting does not end by Ctrl-C.
    waiting = ThreadPoolExecutor(1).submit(wait_for_processes, name, hours=_SHARE_HOURS)
    try:
        waiting.result()
    except jax.errors.JaxRuntimeError as error:
        # JAX aborts this process a moment later, with the coordinator's report.
        raise OSError(
            "another process of this run has died: what is done stays; start all of them again"
        ) from error
    except KeyboardInterrupt:
        _stop()


def _stop() -> NoReturn:
    """Ends this process without waiting for the others, as Python's own end would."""
    print("stopped: what is done stays", file=sys.stderr, flush=True)
    os._exit(_STOPPED)


@contextlib.contextmanager
def together(name: str) -> Iterator[None]:
    """A part of a run that all processes end together, well or badly.

    Each one's errors go on to all, when all have come to the end of the part. JAX by itself would
    let a process with an error wait for five minutes, and then abort the others. Ctrl-C ends this
    process at once.

    Args:
        name: of the part; the same in all processes.

    Raises:
        OSError: if another process has failed or died.
    """
    problem = None
    try:
        yield
    except Exception as error:
        problem = error
    except KeyboardInterrupt:
        if are_several():
            _stop()
        raise
    if problem is not None:
        if are_several():
            with contextlib.suppress(OSError):  # The first error says enough.
                gather(name, True)
        raise problem
    has_failed = gather(name, False)
    if any(has_failed):
        raise OSError(f"process {has_failed.index(True)} of this run has failed, and says why")
