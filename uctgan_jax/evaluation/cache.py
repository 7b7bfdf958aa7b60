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

    def __init__(self, folder: str | Path, options: Mapping[str, Any]):
        """Opens the file of these options in `folder`, or begins it.

        A last line that was cut off while it was written is removed.
        """
        head = json.dumps({"options": options}, sort_keys=True)
        self.path = Path(folder) / f"{hashlib.sha256(head.encode()).hexdigest()[:16]}.jsonl"
        self._measurements: dict[tuple[int, str], dict] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists() or not self._read():
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

    def _read(self) -> bool:
        """Reads the measurements; returns whether there is a first line."""
        *lines, cut_off = self.path.read_bytes().split(b"\n")
        if cut_off:
            with self.path.open("r+b") as file:
                file.truncate(sum(len(line) + 1 for line in lines))
        for line in lines[1:]:
            with contextlib.suppress(ValueError):  # A damaged one's picture is measured again.
                one = json.loads(line, object_hook=_decode)
                self._measurements[one["index"], one["inputs"]] = one
        return bool(lines)


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
