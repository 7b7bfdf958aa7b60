"""The device a benchmark runs on, and the most its matrix multiplication delivers."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp


def device_name() -> str:
    """The kind and number of devices; for a CPU also its model and cores."""
    device = jax.devices()[0]
    name = f"{jax.device_count()} x {device.device_kind}"
    if device.platform == "cpu":
        name += f" ({_cpu_model()}, {os.cpu_count()} cores)"
    return name


class Matmul:
    """A square matrix product: the ceiling that other programs are held against.

    Attributes:
      flop: operations of one call.
    """

    def __init__(self, dtype: str):
        """Compiles the product, of a size that fills the device.

        Args:
          dtype: what is multiplied, "float32" or "bfloat16".
        """
        side = 2048 if jax.default_backend() == "cpu" else 8192
        self.flop = 2 * side**3
        # Noise: a GPU multiplies constants faster, as they take less power.
        self._x = jax.random.normal(jax.random.key(0), (side, side), dtype)
        self._multiply = jax.jit(jnp.matmul)
        self()

    def __call__(self) -> None:
        """Multiplies once, on the first device, and waits."""
        self._multiply(self._x, self._x).block_until_ready()


def time_in_turns(calls: Mapping[str, Callable[[], object]], *, seconds: float) -> dict[str, float]:
    """Median seconds of each call; they take turns, so that a busy machine slows all alike.

    Args:
      calls: functions that return when their work is done; all have run once.
      seconds: the time to spend, more or less; each call runs three times at least.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: statistics.median(values) for name, values in times.items()}


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
