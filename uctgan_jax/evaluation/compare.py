"""Comparing with any other program: our inputs out as files, its completions in as files.

Picture i of the split is called `NAME = f"{i:06d}"`. `export_inputs` writes, as PNG, `NAME.png`
(hole in mid-grey), `NAME_mask.png` (white = hole) and `NAME_truth.png`; `CompletionsFolder` reads
`NAME_000.png`, `NAME_001.png` ...
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from uctgan_jax.images import read_image, write_image


def export_inputs(
    batches: Iterable[Mapping[str, np.ndarray]], folder: str | Path, *, num_examples: int
) -> None:
    """Writes every picture masked, its mask, and the whole picture.

    Args:
        batches: of image uint8 [B, S, S, 3], mask uint8 [B, S, S, 1], index int [B].
        folder: is made if need be; files of the same names are overwritten.
        num_examples: how many pictures the batches hold, for the progress bar.
    """
    folder = Path(folder)
    with tqdm(total=num_examples, desc="export", unit="picture") as progress:
        for batch in batches:
            for image, mask, index in zip(
                batch["image"], batch["mask"], batch["index"], strict=True
            ):
                name = picture_name(index)
                write_image(folder / f"{name}.png", np.where(mask == 1, np.uint8(128), image))
                write_image(folder / f"{name}_mask.png", mask * np.uint8(255))
                write_image(folder / f"{name}_truth.png", image)
                progress.update()


def picture_name(index: int) -> str:
    """The NAME of picture `index` of the split."""
    return f"{int(index):06d}"


class CompletionsFolder:
    """Completions that another program left in a folder.

    Attributes:
        digest: SHA-256 over the names and bytes of the files that are used.
    """

    def __init__(self, folder: str | Path, *, num_examples: int, num_samples: int, image_size: int):
        """Checks, before long work, that all is there and of the right size.

        Args:
            folder: holds `NAME_000.png` ... for the first `num_examples` pictures of the split.
            num_samples: K; each picture must have exactly as many.
            image_size: S; each must have S x S pixels.

        Raises:
            FileNotFoundError: no such folder, or pictures without a completion.
            ValueError: too few or too many completions of a picture, one of another size, a file
                that is no picture.
        """
        self._folder, self._num_samples = Path(folder), num_samples
        if not self._folder.is_dir():
            raise FileNotFoundError(f"{folder} must be a folder of completions NAME_000.png ...")
        if num_samples < 1:
            raise ValueError(f"num_samples ({num_samples}) must be at least 1.")
        found: dict[str, set[str]] = {}
        for path in self._folder.glob("*_*.png"):
            name, _, number = path.stem.rpartition("_")
            if number.isdecimal():
                found.setdefault(name, set()).add(path.name)
        names = [picture_name(index) for index in range(num_examples)]
        missing = [name for name in names if name not in found]
        if missing:
            raise FileNotFoundError(
                f"{folder} has no completion of {len(missing)} of {num_examples} pictures: "
                f"{', '.join(missing[:5])}{' ...' * (len(missing) > 5)}."
            )
        sha = hashlib.sha256()
        for index, name in enumerate(names):
            paths = self._paths(index)
            if found[name] != {path.name for path in paths}:
                there = sorted(found[name])
                raise ValueError(
                    f"{folder} has {len(there)} completion(s) of {name}, {there[0]} to {there[-1]},"
                    f" but must have {num_samples}: {paths[0].name} to {paths[-1].name}."
                )
            for path in paths:
                size = _picture_size(path)
                if size != (image_size, image_size):
                    raise ValueError(
                        f"{path} is {size[0]} x {size[1]} pixels but must be {image_size} x "
                        f"{image_size}, as its input."
                    )
                sha.update(path.name.encode() + path.read_bytes())
        self.digest = sha.hexdigest()

    def complete(self, images: np.ndarray, masks: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The completions of pictures `index` [B] as they are: uint8 [B, K, S, S, 3]."""
        return np.stack([[read_image(path) for path in self._paths(i)] for i in index])

    def _paths(self, index: int) -> list[Path]:
        name = picture_name(index)
        return [self._folder / f"{name}_{k:03d}.png" for k in range(self._num_samples)]


def _picture_size(path: Path) -> tuple[int, int]:
    """Width and height, read from the file's head alone."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a picture of a known format.") from error
