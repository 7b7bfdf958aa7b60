"""From the step of one device to the step of all devices."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

PyTree = Any

MODES = ("shard_map", "jit", "pmap")

_AXIS = "data"


def initialize_processes(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Joins this process to the others of a run, before JAX sees its first device.

    Args:
        coordinator_address: `HOST:PORT` of the first process; None to read it from the
            environment, as TPU pods and SLURM set it.
        num_processes: how many there are; None likewise.
        process_id: which of them this is, from 0; None likewise.

    Raises:
        ValueError: if only some of the three are given, the address has no port, or the
            environment does not tell them.
    """
    given = (coordinator_address, num_processes, process_id)
    if any(v is None for v in given) and any(v is not None for v in given):
        raise ValueError(
            f"coordinator_address ({coordinator_address}), num_processes ({num_processes}) and"
            f" process_id ({process_id}) must be given together, or none of them"
        )
    if coordinator_address is not None and not re.fullmatch(r".+:\d+", coordinator_address):
        raise ValueError(f"coordinator_address ({coordinator_address}) must be HOST:PORT")
    try:
        jax.distributed.initialize(coordinator_address, num_processes, process_id)
    except ValueError as error:
        raise ValueError(
            f"the processes of the run cannot be found ({error}): where neither a TPU pod nor SLURM"
            " tells, give coordinator_address, num_processes and process_id"
        ) from error


def wait_for_processes(name: str) -> None:
    """Waits until all processes have come here, for an hour at most.

    By the coordinator: a collective operation, which Orbax's barrier is without `processes`, gives
    up on CPUs when another process comes 30 seconds later.

    Args:
        name: of the place; the same in all processes.
    """
    ocp.multihost.sync_global_processes(
        f"uctgan_jax: {name}", timeout=3600, processes=set(range(jax.process_count()))
    )


class DataParallel:
    """Data parallelism in one of three ways, all of which give the same numbers.

    - `"shard_map"`: each device runs the step on its share; gradients are averaged.
    - `"jit"`: the compiler splits the step of the whole batch.
    - `"pmap"`: as `"shard_map"`, through JAX's older transformation.

    State is replicated, batches are split along their first axis.

    Attributes:
      mode: one of `MODES`.
      devices: the devices, of all processes.
      axis_name: the axis the step must average over, None when the compiler does it.
    """

    def __init__(self, mode: str, devices: Sequence[jax.Device] | None = None):
        """Takes all devices unless told otherwise.

        Raises:
          ValueError: if `mode` is not one of `MODES`.
        """
        if mode not in MODES:
            raise ValueError(f"parallel ({mode!r}) must be one of {', '.join(MODES)}")
        self.mode = mode
        self.devices = tuple(devices or jax.devices())
        self.axis_name = None if mode == "jit" else _AXIS
        self._mesh = Mesh(np.asarray(self.devices), (_AXIS,))
        self._replicated = NamedSharding(self._mesh, P())
        self._split = NamedSharding(self._mesh, P(_AXIS))
        self._local_devices = [d for d in self.devices if d.process_index == jax.process_index()]

    def check_batch_size(
        self, batch_size: int, name: str = "batch_size", num_parts: int = 1
    ) -> None:
        """Raises a ValueError if a global batch does not split evenly over devices, and parts."""
        if batch_size < 1 or batch_size % (len(self.devices) * num_parts):
            times = f" times gradient_accumulation ({num_parts})" if num_parts > 1 else ""
            raise ValueError(
                f"{name} ({batch_size}) must be a positive multiple of the number of devices"
                f" ({len(self.devices)}){times}"
            )

    def compile(self, step: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]]) -> Callable:
        """Compiles `step(state, batch) -> (state, metrics)`; the state's buffers are donated."""
        if self.mode == "pmap":
            return jax.pmap(step, _AXIS, donate_argnums=0, devices=self.devices)
        if self.mode == "shard_map":
            # With check_vma the gradients of replicated parameters come summed already, and
            # averaging them would leave them too large by the number of devices.
            step = jax.shard_map(
                step,
                mesh=self._mesh,
                in_specs=(P(), P(_AXIS)),
                out_specs=(P(), P()),
                check_vma=False,
            )
        return jax.jit(
            step,
            in_shardings=(self._replicated, self._split),
            out_shardings=(self._replicated, self._replicated),
            donate_argnums=0,
        )

    def compile_rows(self, function: Callable[[PyTree, PyTree], PyTree]) -> Callable:
        """Compiles `function(params, batch) -> rows`, of each example by itself.

        `params` are replicated; of the result `fetch_rows` gives this process's part.
        """
        if self.mode == "pmap":
            return jax.pmap(function, _AXIS, devices=self.devices)
        return jax.jit(
            function,
            in_shardings=(self._replicated, self._split),
            out_shardings=self._split,
        )

    def compile_ahead(
        self, steps: Sequence[Callable], state: PyTree, batch: Mapping[str, jax.Array]
    ) -> list[Callable]:
        """Compiles what `compile` gave, all steps for batches like this one on the devices.

        All at once, and in all processes: the first collective operation then finds every one
        ready; the one on CPUs gives up on those that compile 30 seconds longer.
        """
        lowered = [step.lower(state, batch) for step in steps]
        with concurrent.futures.ThreadPoolExecutor() as threads:
            compiled = list(threads.map(jax.stages.Lowered.compile, lowered))
        wait_for_processes("steps compiled")
        # What `pmap` compiles ahead takes the rows of all processes, not each one's own. Its own
        # calls do, and find the program compiled.
        return list(steps) if self.mode == "pmap" else compiled

    def replicate(self, state: PyTree) -> PyTree:
        """Puts a state on all devices, in new buffers, which donation may then take."""
        state = jax.tree.map(np.asarray, jax.device_get(state))
        if self.mode == "pmap":
            return jax.tree.map(
                lambda x: self._put_local(np.stack([x] * len(self._local_devices))), state
            )
        return jax.tree.map(
            lambda x: jax.make_array_from_callback(x.shape, self._replicated, lambda _: x), state
        )

    def fetch(self, tree: PyTree) -> PyTree:
        """One copy of a replicated tree (a state or metrics), as numpy arrays."""
        if self.mode == "pmap":
            return jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree)
        return jax.device_get(tree)

    def fetch_rows(self, rows: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
        """This process's rows of what `compile_rows` gave, as numpy arrays: undoes `shard`."""

        def fetch(x: jax.Array) -> np.ndarray:
            shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
            x = np.concatenate([np.asarray(shard.data) for shard in shards])
            return x.reshape(-1, *x.shape[2:]) if self.mode == "pmap" else x

        return {name: fetch(x) for name, x in rows.items()}

    def shard(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts this process's rows of a batch on its devices."""
        if self.mode == "pmap":
            return {
                name: self._put_local(rows.reshape(len(self._local_devices), -1, *rows.shape[1:]))
                for name, rows in batch.items()
            }
        return {
            name: jax.make_array_from_process_local_data(self._split, rows)
            for name, rows in batch.items()
        }

    def prefetch(
        self, batches: Iterable[Mapping[str, np.ndarray]], size: int = 2
    ) -> Iterator[dict[str, jax.Array]]:
        """Keeps `size` batches on the devices ahead of their use."""
        sharded = map(self.shard, batches)
        queue = collections.deque(itertools.islice(sharded, size))
        while queue:
            yield queue.popleft()
            queue.extend(itertools.islice(sharded, 1))

    def _put_local(self, x: np.ndarray) -> jax.Array:
        """One row for each of this process's devices, as pmap wants its arguments."""
        mesh = Mesh(np.asarray(self._local_devices), (_AXIS,))
        return jax.device_put(x, NamedSharding(mesh, P(_AXIS)))
