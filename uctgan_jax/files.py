"""Files written whole or not at all, folders held by one run, paths as people type them."""

import contextlib
import fcntl
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class InputFile:
    """A file that was read once, so that it may be a pipe."""

    path: Path
    data: bytes = field(repr=False)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def read_input(path: str | Path | InputFile) -> InputFile:
    """Reads a file whole. What was read already is returned as it is.

    Raises:
        OSError: with the path; FileNotFoundError if there is no such file.
    """
    if isinstance(path, InputFile):
        return path
    path = Path(path)
    try:
        return InputFile(path, path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None


def typed_path(text: str) -> Path:
    """A path as a person typed it, in which a leading `~` or `~user` is a home.

    Only for what was typed: in names found in folders `~` is a letter like others.

    Raises:
        ValueError: for an empty path, or a user who does not exist and no such file either.
    """
    if not text:
        raise ValueError("the path is empty: is a variable not set?")
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        if os.path.lexists(path):
            return path
        user = path.parts[0].removeprefix("~")
        raise ValueError(
            f"{text}: there is no user {user!r}; a file of this name is ./{text}"
        ) from None


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
        lock: a folder, which stays as it is, or a file, made if missing.
        busy: the error's message.

    Raises:
        ValueError: if another process, or another `with` of this one, is within.
    """
    flags = os.O_RDONLY if lock.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(lock, flags, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(busy) from None
        except OSError:  # Some shared ones of clusters are mounted without.
            pass
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the name `path` when the block ends without error.

    Raises:
        OSError: with the path, if it cannot be written, as on a full disk.
    """
    # Its own name: two that write the same file do not write into each other's.
    writer = f"{os.getpid()}-{threading.get_ident()}"
    partial = path.with_name(f"{path.name}.{writer}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def remove_leftovers(folder: Path) -> None:
    """Removes what `write_atomically` left in a folder when its process was killed.

    Only for a folder that is held alone: another process may be writing there otherwise.
    """
    for file in folder.glob("*.partial"):
        if re.search(r"\.\d+-\d+\.partial$", file.name):
            file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file."""
    with write_atomically(path) as file:
        file.write(text.encode())
