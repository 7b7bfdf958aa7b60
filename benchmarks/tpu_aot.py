"""Compiles the real training step for a TPU pod, without one, and says what the compiler expects.

    pip install libtpu==0.0.42        # the version that jax[tpu] of this jax pins; Linux, x86-64
    python -m benchmarks.tpu_aot --config=configs/celeba_hq.py --topology=v5e:16x16 \
        [--per_chip_batch=16] [--stage=joint] [--output_text=FILE] [--config.NAME=VALUE ...]

Prints JSON. Nothing runs: times are the compiler's own estimates of each operation of its schedule,
summed, plus the time collectives need at the published bandwidth, as if nothing overlapped them.
Asynchronous copies and operations of a few numbers carry no estimate and count as free. A
256 px step takes ten minutes and more to compile; `--output_text` keeps the compiled program.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

import jax
import ml_collections
from absl import flags, logging
from jax.experimental import topologies

from benchmarks import programs
from uctgan_jax import command_line
from uctgan_jax.parallel import DataParallel

FLAGS = flags.FlagValues()
_CONFIG = command_line.define_config("The configuration of the run.", FLAGS, required=True)
_TOPOLOGY = flags.DEFINE_string(
    "topology", "v5e:16x16", "Generation and shape of the slice.", flag_values=FLAGS
)
_PER_CHIP_BATCH = flags.DEFINE_integer(
    "per_chip_batch", 16, "Pictures a chip and step.", flag_values=FLAGS
)
_STAGE = flags.DEFINE_enum("stage", "joint", programs.STAGES, "Whose steps.", flag_values=FLAGS)
_COMPUTE_DTYPE = flags.DEFINE_string(
    "compute_dtype", "bfloat16", "Instead of the config's own.", flag_values=FLAGS
)
_OUTPUT_TEXT = command_line.define_path(
    "output_text", None, "A file for the compiled program's text.", FLAGS
)


@dataclasses.dataclass(frozen=True)
class Chip:
    """Published figures of a TPU generation."""

    flop_per_second: float  # bfloat16
    # Of its matrix units. With the line above it gives the clock; the compiler's estimate of a
    # 4096-cubed product comes to 87 % (v6e) to 97 % of it.
    flop_per_cycle: int
    hbm_bytes: float
    # What a chip sends while it receives as much.
    interconnect_bytes_per_second: float
    # How the runtime calls a slice, by its number of chips.
    accelerator_type: str
    cores: int = 1

    @property
    def cycles_per_second(self) -> float:
        return self.flop_per_second / self.flop_per_cycle


CHIPS = {
    "v5e": Chip(197e12, 4 * 2 * 128**2, 16e9, 200e9, "v5litepod-{}"),
    "v6e": Chip(918e12, 4 * 2 * 256**2, 32e9, 400e9, "v6e-{}"),
    "v5p": Chip(459e12, 8 * 2 * 128**2, 95e9, 600e9, "v5p-{}", cores=2),
}


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a compiled program that costs time.

    Attributes:
      name: its name in the program.
      kind: "collective", "convolution" (matrix products too), "copy" (any change of layout) or
        "other" (arithmetic, reductions, random numbers).
      scope: where it comes from, as JAX names it.
      result_bytes: size of what it returns, without padding, in all rounds of its loops.
      cycles: the compiler's estimate, likewise; 0 for collectives.
    """

    name: str
    kind: str
    scope: str
    result_bytes: int
    cycles: int


_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][a-z0-9\-]*)\((.*)$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CALLED = re.compile(r"\bcalls=%?([\w.\-]+)")
_LOOP = re.compile(r"\bcondition=%?([\w.\-]+), body=%?([\w.\-]+)")
_SCOPE = re.compile(r'op_name="([^"]*)"')
_ARRAY = re.compile(r"\b(pred|[a-z]+[0-9]+\w*)\[([0-9,]*)\]")
_COLLECTIVES = frozenset(
    name + suffix
    for name in (
        "all-gather",
        "all-reduce",
        "all-to-all",
        "collective-permute",
        "reduce-scatter",
    )
    for suffix in ("", "-start")
)
_PRODUCTS = frozenset({"convolution", "dot"})
_MOVES = frozenset(
    {"bitcast", "copy", "parameter", "reshape", "slice", "transpose", "tuple", "get-tuple-element"}
)


def parse_operations(text: str) -> list[Operation]:
    """The operations of a compiled program (`compiled.as_text()`) that cost time, in its order.

    Operations inside a fusion count with the fusion, those of a loop's body in every round.
    """
    operations = []
    rounds = _rounds(text)
    # What each computation holds, those it calls included: they come before their callers.
    contents: dict[str, set[str]] = collections.defaultdict(set)
    for computation, (name, result, opcode, rest) in _instructions(text):
        called = _CALLED.search(rest)
        opcodes = contents[called[1]] if called else {opcode}
        contents[computation] |= opcodes
        cycles = _CYCLES.search(rest)
        if cycles or opcode in _COLLECTIVES:
            scope = _SCOPE.search(rest)
            operations.append(
                Operation(
                    name=name,
                    kind=_kind(opcodes),
                    scope=scope[1] if scope else "",
                    result_bytes=rounds[computation] * shape_bytes(result),
                    cycles=rounds[computation] * int(cycles[1]) if cycles else 0,
                )
            )
    return operations


def _instructions(text: str) -> Iterator[tuple[str, tuple[str, str, str, str]]]:
    """The instructions of a program: their computation; name, type, opcode and all that follows."""
    computation = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header[1]
        if instruction := _INSTRUCTION.match(line):
            yield computation, instruction.groups()


def _rounds(text: str) -> dict[str, int]:
    """How often the body of each loop runs; 1 for all other computations.

    A loop of JAX's counts up to the one number in its condition.
    """
    limits: dict[str, int] = {}
    loops: dict[str, tuple[str, str]] = {}  # by body: the computation it is in, its condition
    for computation, (_, result, opcode, rest) in _instructions(text):
        if opcode == "while":
            condition, body = _LOOP.search(rest).groups()
            loops[body] = computation, condition
        elif opcode == "constant" and result.startswith("s32[]"):
            limits[computation] = int(rest.partition(")")[0])

    rounds: dict[str, int] = collections.defaultdict(lambda: 1)
    for body in loops:
        around = body
        while around in loops:
            around, condition = loops[around]
            rounds[body] *= limits[condition]
    return rounds


def shape_bytes(shape: str) -> int:
    """Bytes of an array or tuple as the compiler writes its type: `(f32[2,3]{1,0}, bf16[8]{0})`."""
    total = 0
    for dtype, sizes in _ARRAY.findall(shape):
        bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype)[0])
        total += math.prod(int(n) for n in sizes.split(",") if n) * bits // 8
    return total


def place(scope: str) -> str:
    """The network an operation belongs to and its direction: "Generator backward"."""
    network = re.search(
        r"\b(ManifoldProjection|ConditionalEncoder|Generator|Discriminator|AlexNet)\b", scope
    )
    if not network:
        return "losses and optimizers"
    return f"{network[1]} {'backward' if 'transpose(' in scope else 'forward'}"


def estimate_step(
    operations: Iterable[Operation], *, chip: Chip, num_chips: int, flop: float
) -> dict:
    """What one step on one chip takes, by the compiler's estimates.

    Args:
      operations: of the compiled program.
      chip: the chip's figures.
      num_chips: how many exchange gradients.
      flop: operations of the step on one chip.
    """
    operations = list(operations)
    cycles = sum(operation.cycles for operation in operations)
    exchanged = [operation for operation in operations if operation.kind == "collective"]
    exchanged_bytes = sum(operation.result_bytes for operation in exchanged)
    # A ring or torus passes on everything but a chip's own share, to sum and again to spread.
    exchange_seconds = (
        2 * exchanged_bytes * (num_chips - 1) / num_chips / chip.interconnect_bytes_per_second
    )
    seconds = cycles / chip.cycles_per_second + exchange_seconds
    return {
        "estimated_cycles": cycles,
        "estimated_step_ms": round(1e3 * seconds, 3),
        "share_of_peak": round(flop / seconds / chip.flop_per_second, 3),
        "collectives": len(exchanged),
        "collective_megabytes": round(exchanged_bytes / 1e6, 2),
        "collective_ms": round(1e3 * exchange_seconds, 3),
        "collective_share_of_step": round(exchange_seconds / seconds, 4),
        "cycles_by_kind": _shares(operations, [operation.kind for operation in operations]),
        "cycles_by_place": _shares(
            operations, [place(operation.scope) for operation in operations]
        ),
        "slowest": [
            {
                "name": operation.name,
                "kind": operation.kind,
                "scope": operation.scope,
                "share": round(operation.cycles / cycles, 4),
            }
            for operation in sorted(operations, key=lambda o: -o.cycles)[:10]
        ],
    }


def _kind(opcodes: set[str]) -> str:
    if opcodes & _COLLECTIVES:
        return "collective"
    if opcodes & _PRODUCTS:
        return "convolution"
    return "copy" if opcodes <= _MOVES else "other"


def _shares(operations: Sequence[Operation], labels: Sequence[str]) -> dict[str, float]:
    """The share of all cycles under each label, the largest first."""
    cycles: collections.Counter[str] = collections.Counter()
    for operation, label in zip(operations, labels, strict=True):
        cycles[label] += operation.cycles
    return {label: round(n / cycles.total(), 4) for label, n in cycles.most_common()}


def get_devices(topology: str) -> Sequence[jax.Device]:
    """The devices of a slice that is not there, `GENERATION:SHAPE`.

    Raises:
      ValueError: if the generation is not one of `CHIPS`.
      ImportError: if libtpu is not installed.
    """
    generation, _, shape = topology.partition(":")
    if generation not in CHIPS or not re.fullmatch(r"\d+(x\d+)+", shape):
        raise ValueError(
            f"topology ({topology!r}) must be GENERATION:SHAPE, as v5e:16x16 or v5p:4x4x4;"
            f" known generations: {', '.join(CHIPS)}"
        )
    chip = CHIPS[generation]
    num_cores = chip.cores * math.prod(map(int, shape.split("x")))
    # Or libtpu looks for a TPU of this machine, and for others beside it.
    os.environ |= {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": chip.accelerator_type.format(num_cores),
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_WORKER_ID": "0",
    }
    jax.config.update("jax_platforms", "cpu")
    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"the TPU compiler is not installed: pip install libtpu (0.0.42 for jax 0.10.2; this"
            f" is jax {jax.__version__}, whose jax[tpu] says which version it takes)"
        ) from error
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def compile_step(
    config: ml_collections.ConfigDict,
    devices: Sequence[jax.Device],
    per_chip_batch: int,
    stage: str,
) -> tuple[jax.stages.Compiled, float]:
    """A stage's compiled step for these devices, and the seconds it took to compile."""
    parallel = DataParallel(config.parallel, devices)
    create, step = programs.train_program(config, parallel.axis_name, stage)
    batch = programs.batch_shapes(config, per_chip_batch * len(devices))
    lowered = parallel.compile(step).lower(jax.eval_shape(create), batch)
    start = time.perf_counter()
    compiled = lowered.compile()
    return compiled, time.perf_counter() - start


def further_parts_flop(config: ml_collections.ConfigDict, per_chip_batch: int, stage: str) -> float:
    """Operations of a step on one chip beyond those of the first part of its batch.

    The compiler counts a loop as one of its rounds, and the parts of a batch are rounds of a loop.
    """
    parts = config.gradient_accumulation
    if parts == 1:
        return 0.0
    one, two = (programs.train_flop(config, size, stage) for size in (1, 2))
    return (two - one) * per_chip_batch * (parts - 1) / parts


def report(
    compiled: jax.stages.Compiled,
    *,
    chip: Chip,
    num_chips: int,
    per_chip_batch: int,
    more_flop: float,
):
    """Memory, operations and estimated time of a compiled step, for one chip.

    `more_flop` are operations that the compiler does not count.
    """
    memory = compiled.memory_analysis()
    # The state is donated: what comes out lies where it came in.
    hbm_bytes = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    flop = compiled.cost_analysis()["flops"] + more_flop
    return {
        "hbm_gigabytes": round(hbm_bytes / 1e9, 2),
        "hbm_share": round(hbm_bytes / chip.hbm_bytes, 3),
        "gflop_a_picture": round(flop / per_chip_batch / 1e9, 2),
        **estimate_step(
            parse_operations(compiled.as_text()), chip=chip, num_chips=num_chips, flop=flop
        ),
    }


def main() -> None:
    logging.set_verbosity(logging.WARNING)
    config = _CONFIG.value
    config.compute_dtype = _COMPUTE_DTYPE.value
    per_chip_batch = _PER_CHIP_BATCH.value
    devices = get_devices(_TOPOLOGY.value)
    print(f"compiling for {len(devices)} {devices[0].device_kind} ...", file=sys.stderr, flush=True)
    stage = _STAGE.value
    compiled, seconds = compile_step(config, devices, per_chip_batch, stage)
    if _OUTPUT_TEXT.value:
        _OUTPUT_TEXT.value.write_text(compiled.as_text())
    result = {
        "topology": _TOPOLOGY.value,
        "chips": len(devices),
        "image_size": config.image_size,
        "compute_dtype": config.compute_dtype,
        "parallel": config.parallel,
        "per_chip_batch": per_chip_batch,
        "gradient_accumulation": config.gradient_accumulation,
        "stage": stage,
        "jax": jax.__version__,
        "compile_seconds": round(seconds, 1),
        **report(
            compiled,
            chip=CHIPS[_TOPOLOGY.value.partition(":")[0]],
            num_chips=len(devices),
            per_chip_batch=per_chip_batch,
            more_flop=further_parts_flop(config, per_chip_batch, stage),
        ),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    command_line.run(main, FLAGS)
