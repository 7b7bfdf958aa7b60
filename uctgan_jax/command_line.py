"""What all programs do alike on the command line: mistakes are one line, output may go nowhere."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from absl import app, flags, logging

from uctgan_jax import compilation_cache, cpu_flags


def run(main: Callable[[list[str]], None]) -> None:
    """`absl.app.run`, which would end with a traceback.

    One line says what is wrong with a field of `--config`, where there is no device to compute on,
    and so does one for every ValueError, OSError and ImportError of `main`.

    Args:
        main: takes the program's name as a list of one, as from `absl.app`.
    """
    app.run(functools.partial(_run_main, main), flags_parser=_parse)


def require_device() -> None:
    """Raises a ValueError, of one line, if JAX finds no device of those that it is told to use."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or "there is none"
        asked = os.environ.get("JAX_PLATFORMS") or "any"
        raise ValueError(
            f"JAX finds no device to compute on (JAX_PLATFORMS: {asked}): {reason}"
        ) from error


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Printing in the `with` never fails: results are files, and outlive whoever reads along.

    Standard output and error may be closed, full, a pipe whose reader has gone, or Jupyter's.
    Characters that they cannot show are escaped: names of files may be any bytes.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Forgiving(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


class _Forgiving:
    """A text stream, or None for a closed one, whose errors are passed over."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self._stream is not None:
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            shown = text.encode(encoding, "backslashreplace").decode(encoding)
            self._try(lambda: self._stream.write(shown))
            self.flush()
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._try(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, ValueError):  # ValueError: it was closed
            # What is still in its buffer must not fail when Python ends.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


def _run_main(main: Callable[[list[str]], None], argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        try:
            main(argv)
        except (RuntimeError, AssertionError):
            # Only now: a run on several processes must not look for devices before it is begun.
            require_device()
            raise
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{_program(argv)}: {error}") from error


def define_process_flags() -> None:
    """Defines the flags that say which of several processes this one is."""
    flags.DEFINE_bool("distributed", False, "One of several processes.")
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer("num_processes", None, "How many processes there are.")
    flags.DEFINE_integer("process_id", None, "Which process this is, from 0.")


def are_processes_given(options: Any) -> bool:
    """Whether the command line says that there are several processes.

    Args:
        options: with the values of the flags of `define_process_flags`, by their names.
    """
    return options.distributed or any(value is not None for value in _processes(options))


def join_processes(options: Any, *, catch_sigterm: bool = True) -> None:
    """Joins the other processes of a run, if `are_processes_given`.

    Args:
        options: as for `are_processes_given`.
        catch_sigterm: as for `parallel.initialize_processes`.

    Raises:
        ValueError: likewise.
    """
    if are_processes_given(options):
        from uctgan_jax import parallel

        parallel.initialize_processes(*_processes(options), catch_sigterm=catch_sigterm)


def _processes(options: Any) -> tuple[str | None, int | None, int | None]:
    return options.coordinator_address, options.num_processes, options.process_id


def prepare_jax() -> None:
    """Sets what JAX has to know before it starts: flags for this CPU, the compilation cache."""
    cpu_flags.set_best()
    logging.set_verbosity(logging.WARNING)  # or JAX tells of every platform that is not there
    compilation_cache.enable()


@contextlib.contextmanager
def training() -> Iterator[None]:
    """Prepares JAX and joins the other processes of a training, which runs within."""
    prepare_jax()
    from uctgan_jax import fit

    join_processes(flags.FLAGS)
    try:
        yield
    except fit.NonFiniteError as error:
        raise SystemExit(f"{_program(sys.argv)}: {error}") from error


def _parse(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:  # of a KeyError with the field and, below it, one like it
        (cause,) = error.args
        field, _, hint = str(getattr(cause, "args", [cause])[0]).partition("\n")
        known = f"--config has no field {field}: configs/default.py has them all. {hint}"
        sys.exit(f"{_program(argv)}: {known.rstrip()}")


def _program(argv: list[str]) -> str:
    """The file's name, or of `python -m package` the package's."""
    path = Path(argv[0])
    return path.parent.name if path.stem == "__main__" else path.name
