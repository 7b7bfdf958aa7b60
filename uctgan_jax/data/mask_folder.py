"""Masks from files: `mask.kind = "folder:PATH"` and `"paired:PATH"`.

`folder:PATH` draws any of the masks under PATH whose hole share is in `hole_share`; `paired:PATH`
takes the mask with the picture's name. Masks are cut and resized as the pictures are, and are
uint8 {0, 1} [S, S, 1] with 1 = hole, whatever the files' convention.
"""

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging
from tqdm import tqdm

from uctgan_jax.data.masks import check_hole_share
from uctgan_jax.data.workers import cpu_count
from uctgan_jax.images import pictures_by_name, pictures_under, read_mask, resize_and_crop


class MaskFolder:
    """All masks in a folder with a hole share within bounds."""

    def __init__(
        self,
        path: str | Path,
        *,
        image_size: int,
        hole_share: tuple[float, float],
        convention: str = "white_is_hole",
    ):
        """Read all masks and keep those that fit, one bit a pixel.

        Args:
          path: a folder of mask files, at any depth.
          image_size: side of the masks.
          hole_share: (lowest, highest) share of the picture's area, as measured at `image_size`;
            masks without a hole or without a known pixel are left out.
          convention: "white_is_hole" or "black_is_hole".

        Raises: FileNotFoundError for a folder without pictures; ValueError if the share makes no
          sense, no mask has it, or a file is damaged.
        """
        check_hole_share(hole_share)
        files = pictures_under(Path(path).expanduser())
        if not files:
            raise FileNotFoundError(f"No mask files in {str(path)!r}.")
        read = functools.partial(_read, image_size=image_size, convention=convention)
        shares, self._packed = [], []
        with ThreadPoolExecutor(cpu_count()) as pool:
            for mask in tqdm(pool.map(read, files), f"masks in {path}", len(files), unit="mask"):
                share = float(mask.mean())
                shares.append(share)
                if hole_share[0] <= share <= hole_share[1] and 0 < share < 1:
                    self._packed.append(np.packbits(mask))
        _warn_if_inverted(path, shares, convention)
        if not self._packed:
            raise ValueError(
                f"None of the {len(files)} masks in {str(path)!r} has a hole share in "
                f"{tuple(hole_share)}: they go from {min(shares):.3f} to {max(shares):.3f}."
            )
        self._image_size = image_size

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, i: int) -> np.ndarray:
        """Mask i of those that fit: uint8 {0, 1} [image_size, image_size, 1]."""
        size = self._image_size
        return np.unpackbits(self._packed[i], count=size * size).reshape(size, size, 1)


class PairedMasks:
    """For each picture the mask of the same name (relative path without ending)."""

    def __init__(
        self,
        path: str | Path,
        *,
        keys: Sequence[str] | None,
        image_size: int,
        convention: str = "white_is_hole",
    ):
        """Find the mask of each picture.

        Args:
          path: a folder of mask files with the structure of the picture folder.
          keys: the names of the source's pictures.

        Raises: FileNotFoundError for a folder without pictures, or a picture without a mask;
          ValueError for a source whose pictures have no names, or two masks of one name.
        """
        if keys is None:
            raise ValueError(f"Masks paired:{path} need pictures with names: a folder source.")
        files = pictures_by_name(Path(path).expanduser())
        missing = [key for key in keys if key not in files]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(keys)} pictures have no mask in {str(path)!r}; the first "
                f"is {missing[0]!r}."
            )
        self._files = [files[key] for key in keys]
        self._read = functools.partial(_read, image_size=image_size, convention=convention)
        some = self._files[:: max(1, len(self._files) // 64)]
        _warn_if_inverted(path, [float(self._read(file).mean()) for file in some], convention)

    def __getitem__(self, i: int) -> np.ndarray:
        """The mask of picture i: uint8 {0, 1} [image_size, image_size, 1]."""
        return self._read(self._files[i])


def _read(file: Path, *, image_size: int, convention: str) -> np.ndarray:
    mask = resize_and_crop(read_mask(file, convention=convention) * np.uint8(255), image_size)
    return (mask >= 128).astype(np.uint8)


def _warn_if_inverted(path: str | Path, shares: Sequence[float], convention: str) -> None:
    """Holes are the smaller part of almost all mask sets: if not, the convention may be wrong."""
    if np.mean(shares) > 0.5:
        other = "black_is_hole" if convention == "white_is_hole" else "white_is_hole"
        logging.warning(
            "Masks in %s look inverted: as %s, holes cover %.0f %% of them on average. If they "
            "were made the other way, set mask.convention to %s.",
            path, convention, 100 * np.mean(shares), other,
        )  # fmt: skip
