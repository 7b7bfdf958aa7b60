"""Map a function over work in several processes, in order."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cpu_count() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_processes(
    function: Callable[[T], R], items: Sequence[T], *, num_workers: int
) -> Iterator[R]:
    """`function` of each item, in the order of the items; with one worker, in this process.

    Workers are spawned, not forked: this process may have JAX's threads running. A worker that
    dies raises BrokenProcessPool here instead of hanging. When the caller stops early, what has
    not begun is not done.

    Raises: BrokenProcessPool; whatever `function` raises.
    """
    num_workers = min(num_workers, len(items))
    if num_workers <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def check_main_is_guarded() -> None:
    """Raise RuntimeError in a worker that is only just running its parent's script again.

    Called before taking a lock that the parent holds, which would never be released.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise RuntimeError(
            "A script that prepares data must do its work under `if __name__ == '__main__':`."
        )
