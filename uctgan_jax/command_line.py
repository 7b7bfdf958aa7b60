"""What the programs with a `--config` share: their flags, how they begin, how they end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import app, flags, logging

from uctgan_jax import compilation_cache, cpu_flags


def run(main: Callable[[list[str]], None]) -> None:
    """`absl.app.run`, but a field that `--config` does not have ends it with one line."""
    app.run(main, flags_parser=_parse)


def define_process_flags() -> None:
    """Defines the flags that say which of several processes this one is."""
    flags.DEFINE_bool("distributed", False, "One of several processes.")
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer("num_processes", None, "How many processes there are.")
    flags.DEFINE_integer("process_id", None, "Which process this is, from 0.")


@contextlib.contextmanager
def training(program: str) -> Iterator[None]:
    """Prepares JAX and joins the other processes; what goes wrong within ends in one line.

    Args:
        program: its name, for errors.
    """
    cpu_flags.set_best()
    logging.set_verbosity(logging.WARNING)
    compilation_cache.enable()
    from uctgan_jax import fit, parallel

    values = flags.FLAGS
    processes = (values.coordinator_address, values.num_processes, values.process_id)
    try:
        if values.distributed or any(value is not None for value in processes):
            parallel.initialize_processes(*processes)
        yield
    except (ValueError, OSError, fit.NonFiniteError) as error:
        raise SystemExit(f"{program}: {error}") from error


def _parse(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:  # of a KeyError with the field and, below it, one like it
        (cause,) = error.args
        field, _, hint = str(getattr(cause, "args", [cause])[0]).partition("\n")
        known = f"--config has no field {field}: configs/default.py has them all. {hint}"
        sys.exit(f"{Path(argv[0]).name}: {known.rstrip()}")
