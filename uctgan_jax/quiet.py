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


def drop_records(logger: str, *, source: str) -> None:
    """Drops what one package's files log to a logger, from now on.

    Args:
      logger: its name in `logging`.
      source: the package, as a folder of the file that logs.
    """
    for known in logging.getLogger(logger).filters:
        if isinstance(known, _NotFrom) and known.source == source:
            return
    logging.getLogger(logger).addFilter(_NotFrom(source))


class _NotFrom(logging.Filter):
    def __init__(self, source: str):
        super().__init__()
        self.source = source

    def filter(self, record: logging.LogRecord) -> bool:
        return f"/{self.source}/" not in record.pathname
