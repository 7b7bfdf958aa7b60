"""The log of a run: `metrics.jsonl` and TensorBoard files."""

from __future__ import annotations

import collections
import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorboardX

from uctgan_jax.files import write_text


class MetricsLog:
    """Means over the steps since the last record. Of several processes the first one writes."""

    def __init__(
        self,
        workdir: Path,
        *,
        first_step: int,
        fetch: Callable[[Any], Any],
    ):
        """Opens the log, without what an earlier run logged beyond `first_step`.

        Args:
            workdir: the folder of the run.
            first_step: the step that training goes on from.
            fetch: brings a step's metrics to the host.
        """
        self._path = workdir / "metrics.jsonl"
        self._fetch = fetch
        self._pending: collections.deque[Any] = collections.deque()
        self._fetched: list[Mapping[str, Any]] = []
        self._pictures = 0
        self._noted: dict[str, float] = {}
        self._tensorboard = None
        if jax.process_index() == 0:
            if self._path.exists():  # Later steps will be taken, and logged, again.
                lines = self._path.read_text().splitlines()
                kept = [line for line in lines if _logged_step(line) <= first_step]
                write_text(self._path, "".join(line + "\n" for line in kept))
            self._tensorboard = tensorboardX.SummaryWriter(str(workdir), purge_step=first_step + 1)
        self.start_clock()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._tensorboard:
            self._tensorboard.close()

    def start_clock(self) -> None:
        """Begins to count the time of the next record's steps."""
        self._waited, self._since = 0.0, time.perf_counter()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile does not count as the steps' time."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Passes batches on, and notes how long they were waited for."""
        batches = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(batches)
            self._waited += time.perf_counter() - start
            yield batch

    def add(self, metrics: Mapping[str, jax.Array], batch_size: int) -> None:
        """Takes the metrics of one step on so many pictures, without waiting for them."""
        self._pending.append(metrics)
        self._pictures += batch_size
        if len(self._pending) > 2:  # The host stays at most two steps ahead of the devices.
            self._fetched.append(self._fetch(self._pending.popleft()))

    def note(self, name: str, value: float) -> None:
        """Adds a figure to the next record."""
        self._noted[name] = value

    def write(self, step: int) -> dict[str, float]:
        """Writes, and returns, the record of a step."""
        steps = [*self._fetched, *map(self._fetch, self._pending)]
        seconds = time.perf_counter() - self._since
        record: dict[str, float] = {"step": step}
        for name in sorted(set().union(*steps)):  # a new phase may begin in between
            record[name] = float(np.mean([s[name] for s in steps if name in s]))
        record |= self._noted
        record["images_per_sec"] = self._pictures / seconds
        record["data_wait_fraction"] = self._waited / seconds
        if self._tensorboard:
            with self._path.open("a") as file:
                file.write(json.dumps(json_numbers(record)) + "\n")
            for name, value in record.items():
                if name != "step":
                    self._tensorboard.add_scalar(name, value, step)
        self._pending.clear()
        self._fetched, self._noted, self._pictures = [], {}, 0
        self.start_clock()
        return record


def json_numbers(record: Mapping[str, float]) -> dict[str, float | str]:
    """JSON knows no NaN or infinity: they are written as strings."""
    return {k: v if np.isfinite(v) else str(v) for k, v in record.items()}


def _logged_step(line: str) -> float:
    """The step of a log line; infinity for one that a kill cut short."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")
