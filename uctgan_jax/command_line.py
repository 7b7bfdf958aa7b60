"""The one way in for all programs with flags: a user's mistake ends them with one line."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app


def run(main: Callable[[list[str]], None]) -> None:
    """`absl.app.run`, which would end with a traceback.

    One line says what is wrong with a field of `--config`, and so does one for every ValueError,
    OSError and ImportError of `main`.

    Args:
        main: takes the program's name as a list of one, as from `absl.app`.
    """
    app.run(functools.partial(_run_main, main), flags_parser=_parse)


def _run_main(main: Callable[[list[str]], None], argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unknown arguments: {' '.join(argv[1:])}")
    try:
        main(argv)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"{_program(argv)}: {error}") from error


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
