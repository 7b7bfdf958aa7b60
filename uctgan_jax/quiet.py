"""Silence where another package warns of what we asked it for."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def errors_alone(*loggers: str) -> Iterator[None]:
    """Keeps what loggers say below errors from being logged, within a `with`.

    Args:
      *loggers: their names in `logging`; that of `absl.logging` is "absl".
    """
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in loggers}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
