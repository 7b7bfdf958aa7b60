"""Programs with a `--config`: a field that it does not have ends them with one line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from absl import app


def run(main: Callable[[list[str]], None]) -> None:
    """`absl.app.run`, which would end with a traceback."""
    app.run(main, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return app.parse_flags_with_usage(argv)
    except AttributeError as error:  # of a KeyError with the field and, below it, one like it
        (cause,) = error.args
        field, _, hint = str(getattr(cause, "args", [cause])[0]).partition("\n")
        known = f"--config has no field {field}: configs/default.py has them all. {hint}"
        sys.exit(f"{Path(argv[0]).name}: {known.rstrip()}")
