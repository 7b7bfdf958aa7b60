"""Files that are written whole or not at all, and folders that can be written to."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def make_writable(folder: Path) -> None:
    """Makes a folder if it is missing, and tries it: before long work, not after.

    Raises:
        OSError: if nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(f"{folder} cannot be written: {error}") from error


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the name `path` when the block ends without error."""
    # Its own name: two that write the same file do not write into each other's.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f"{path.name}.{writer}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with write_atomically(path) as file:
        file.write(text.encode())
