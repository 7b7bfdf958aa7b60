"""Files that are written whole or not at all, and folders that are ours to write to."""

import contextlib
import fcntl
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
def held_alone(lock: Path, *, busy: str) -> Iterator[None]:
    """Keeps other processes out of a `with` on the same lock, however this one ends.

    Where the file system has no locks, all are let in.

    Args:
        lock: a file, made if missing.
        busy: the error's message.

    Raises:
        ValueError: if another process is within.
    """
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(busy) from None
        except OSError:  # Some shared ones of clusters are mounted without.
            pass
        yield


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
