"""The evaluation cache: measurements on disk, so that an interrupted evaluation goes on."""

import base64
import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


class EvaluationCache:
    """One measurement a picture, in a JSON-lines file that grows as they come.

    The file's name is a digest of the options: other options, another file. Its first line holds
    them in clear. A measurement belongs to a picture with its mask: `index` is its place in the
    split, `inputs` a digest of both (see `digest`). So a changed picture is measured again.

    Attributes:
        path: the file.
    """

    def __init__(self, folder: str | Path, options: Mapping[str, Any], process: int = 0):
        """Opens the file of these options in `folder`, or begins it.

        A last line that was cut off while it was written is removed.

        Args:
            folder: of the file; made if missing.
            options: what measurements depend on, besides the picture.
            process: which of several this is. Each but the first has a file of its own, for what it
                adds to the first one's; `merge_files` makes one of them.
        """
        head = json.dumps({"options": options}, sort_keys=True)
        name = hashlib.sha256(head.encode()).hexdigest()[:16]
        main = Path(folder) / f"{name}.jsonl"
        self.path = main if process == 0 else main.with_suffix(f".{process}.jsonl")
        self._measurements: dict[tuple[int, str], dict] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path != main:
            self._take(_whole_lines(main))
        lines = _whole_lines(self.path, mend=True)
        self._take(lines)
        if not lines:
            self._append(head)

    def __len__(self) -> int:
        return len(self._measurements)

    def get(self, index: int, inputs: str) -> dict | None:
        """The measurement of a picture, or None if there is none yet."""
        return self._measurements.get((index, inputs))

    def add(self, measurement: dict) -> None:
        """Keeps a measurement: `index`, `inputs`, and what JSON or float32 arrays can hold."""
        self._append(json.dumps(measurement, default=_encode))
        self._measurements[measurement["index"], measurement["inputs"]] = measurement

    def _append(self, line: str) -> None:
        with self.path.open("a") as file:
            file.write(line + "\n")

    def _take(self, lines: list[bytes]) -> None:
        for line in lines[1:]:
            with contextlib.suppress(ValueError):  # A damaged one's picture is measured again.
                one = json.loads(line, object_hook=_decode)
                self._measurements[one["index"], one["inputs"]] = one


def merge_files(folder: str | Path) -> None:
    """Moves what other processes measured into the files of the first one.

    Only for a folder to which no other process is writing.
    """
    for part in sorted(Path(folder).glob("*.*.jsonl")):
        main = part.with_name(f"{part.name.partition('.')[0]}.jsonl")
        has_head = bool(_whole_lines(main, mend=True))
        with main.open("ab") as file:
            file.writelines(line + b"\n" for line in _whole_lines(part)[has_head:])
        part.unlink()


def _whole_lines(path: Path, *, mend: bool = False) -> list[bytes]:
    """The lines of a file, none if it is missing, without one that was cut off; `mend` removes it.

    Another process may be in the middle of writing that one.
    """
    if not path.exists():
        return []
    *lines, cut_off = path.read_bytes().split(b"\n")
    if cut_off and mend:
        with path.open("r+b") as file:
            file.truncate(sum(len(line) + 1 for line in lines))
    return lines


def digest(image: np.ndarray, mask: np.ndarray) -> str:
    """SHA-256 of a picture and its mask, shortened to 16 hexadecimal digits."""
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()[:16]


def _encode(array: np.ndarray) -> dict[str, str]:
    # Thousands of features a picture: as decimal numbers they would take three times the room.
    data = np.asarray(array, np.float32).tobytes()
    return {"float32": base64.b64encode(data).decode()}


def _decode(value: dict) -> Any:
    if value.keys() == {"float32"}:
        return np.frombuffer(base64.b64decode(value["float32"]), np.float32)
    return value
