"""Folders of pictures: which files are pictures, what they are called, and what is left out.

Links are followed. Nothing is left out in silence: a `LeftOut` names every file and folder that is
not a picture to be read, and says why.
"""

import functools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif",
    ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jpx", ".pbm", ".pgm", ".ppm", ".pnm",
)  # fmt: skip
MASK_ENDING = "_mask"  # of a mask's name, after that of its picture


class LeftOut(NamedTuple):
    """A file or folder that was found and is not read.

    Attributes:
        path: where it is.
        reason: why it is left out.
        is_lost: whether pictures may be missing with it, as in an unreadable folder.
    """

    path: Path
    reason: str
    is_lost: bool = False


def pictures_under(folder: Path, left_out: list[LeftOut] | None = None) -> Iterator[Path]:
    """All picture files at any depth, in the same order on every machine.

    One folder's names are held at a time, however many there are in all. Pictures are known by
    their endings, `SUFFIXES`. Links are followed, but not into a folder that they lie in.

    Args:
        folder: where to look.
        left_out: takes up what is left out.
    """
    folder = Path(folder)
    above = {_identity(parent) for parent in folder.resolve().parents}
    yield from _walk(folder, [] if left_out is None else left_out, above)


def _walk(folder: Path, left_out: list[LeftOut], above: set[tuple[int, int]]) -> Iterator[Path]:
    files, folders = [], []
    try:
        here = _identity(folder)
        if here in above:
            left_out.append(LeftOut(folder, "a link to a folder that it lies in"))
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = _kind(entry)
                if kind == "folder":
                    folders.append(entry.name)
                elif kind == "picture":
                    files.append(entry.name)
                else:
                    left_out.append(LeftOut(folder / entry.name, *kind))
    except OSError as error:
        reason = f"a folder that cannot be read: {error.strerror or error}"
        left_out.append(LeftOut(folder, reason, is_lost=True))
    for name in sorted(files):
        yield folder / name
    for name in sorted(folders):
        yield from _walk(folder / name, left_out, above | {here})


def _identity(folder: Path) -> tuple[int, int]:
    """What two paths of one folder have in common."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _kind(entry: os.DirEntry) -> str | tuple[str, bool]:
    """ "folder", "picture", or why it is neither and whether a picture may be lost with it."""
    if entry.name.startswith("."):
        return "hidden", False
    try:
        if entry.is_dir():
            return "folder"
        is_picture = entry.name.lower().endswith(SUFFIXES)
        if is_picture and entry.is_file():
            return "picture"
        if is_picture:
            return "a broken link" if entry.is_symlink() else "not a file", True
    except OSError as error:
        return f"cannot be read: {error.strerror or error}", True
    return "not a picture by its ending", False


def picture_name(file: Path, folder: Path) -> str:
    """What a picture under a folder is called: its relative path without the ending.

    Some file systems decompose accents, and others do not: the name is the same on all.
    """
    return unicodedata.normalize("NFC", file.relative_to(folder).with_suffix("").as_posix())


class PictureIndex:
    """The pictures under a folder by `picture_name`, looked up without listing all of them."""

    def __init__(self, folder: Path):
        """Raises: FileNotFoundError if there is no such folder."""
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
        self._folder = folder
        self._listing = functools.lru_cache(maxsize=4)(_list_names)

    def find(self, name: str) -> Path | None:
        """The picture of a name, or None.

        Raises:
            ValueError: if two have this name.
        """
        folder = self._folder
        *parents, last = name.split("/")
        for parent in parents:
            folders, _ = self._listing(folder)
            if parent not in folders:
                return None
            folder /= folders[parent]
        files = self._listing(folder)[1].get(last, ())
        if len(files) > 1:
            first, second = (folder / file for file in sorted(files)[:2])
            raise ValueError(f"{first} and {second} have the same name: rename one of them")
        return folder / files[0] if files else None

    def find_mask(self, name: str) -> Path | None:
        """The mask of a picture: of its own name, or else of its name and `_mask`."""
        return self.find(name) or self.find(name + MASK_ENDING)


def _list_names(folder: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Subfolders by name, and picture files by name without ending, accents composed."""
    folders: dict[str, str] = {}
    files: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                kind = _kind(entry)
                if kind == "folder":
                    folders[unicodedata.normalize("NFC", entry.name)] = entry.name
                elif kind == "picture":
                    stem = unicodedata.normalize("NFC", os.path.splitext(entry.name)[0])
                    files.setdefault(stem, []).append(entry.name)
    except OSError:  # `pictures_under` names it
        pass
    return folders, files


def describe(left_out: Sequence[LeftOut], *, shown: int = 3) -> str:
    """One line a reason: how many files and folders were left out for it, and the first of them."""
    lines = []
    for reason, count in Counter(item.reason for item in left_out).most_common():
        names = [str(item.path) for item in left_out if item.reason == reason][:shown]
        more = "" if count <= shown else ", ..."
        lines.append(f"{count} left out, {reason}: {', '.join(names)}{more}")
    return "\n".join(lines)
