"""Masks from files: `mask.kind = "folder:PATH"` and `"paired:PATH"`.

`folder:PATH` draws any of the masks under PATH whose hole share is in `hole_share`; `paired:PATH`
takes the mask with the picture's name, or with `_mask` after it. Masks are cut and resized as the
pictures are, and are uint8 {0, 1} [S, S, 1] with 1 = hole, whatever the files' convention.
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
from uctgan_jax.files import typed_path
from uctgan_jax.images import check_hole, other_convention, read_mask, resize_and_crop
from uctgan_jax.picture_folders import (
    LeftOut,
    PictureIndex,
    describe,
    pictures_under,
)


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
            masks without a hole or without a known pixel are left out. How many are left out is
            logged.
          convention: "white_is_hole" or "black_is_hole".

        Raises: FileNotFoundError for a folder without pictures; ValueError if the share makes no
          sense, no mask has it, or a file is damaged.
        """
        check_hole_share(hole_share)
        files = _mask_files(typed_path(str(path)))
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
        if len(self._packed) < len(files):
            logging.info(
                "Masks in %s: %d of %d have a hole share in %s.",
                path, len(self._packed), len(files), tuple(hole_share),
            )  # fmt: skip
        self._image_size = image_size

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, i: int) -> np.ndarray:
        """Mask i of those that fit: uint8 {0, 1} [image_size, image_size, 1]."""
        size = self._image_size
        return np.unpackbits(self._packed[i], count=size * size).reshape(size, size, 1)


class PairedMasks:
    """For each picture the mask of its name: relative path without ending, with `_mask` or not."""

    def __init__(
        self,
        path: str | Path,
        *,
        keys: Sequence[str] | None,
        image_size: int,
        convention: str = "white_is_hole",
    ):
        """Find the mask of each picture, and read all of them once.

        Args:
          path: a folder of mask files with the structure of the picture folder.
          keys: the names of the source's pictures.

        Raises: FileNotFoundError for a folder without pictures, or a picture without a mask;
          ValueError for a source whose pictures have no names, two masks of one name, a damaged
          mask, or one that is empty or full at `image_size`.
        """
        if keys is None:
            raise ValueError(f"Masks paired:{path} need pictures with names: a folder source.")
        folder = typed_path(str(path))
        index = PictureIndex(folder)
        files = [index.find_mask(key) for key in keys]
        missing = [key for key, file in zip(keys, files, strict=True) if file is None]
        if missing:
            raise FileNotFoundError(
                f"{len(missing)} of {len(keys)} pictures have no mask in {str(path)!r}; the first "
                f"is {missing[0]!r}."
            )
        self._files = files
        self._read = functools.partial(_read, image_size=image_size, convention=convention)
        shares = []
        with ThreadPoolExecutor(cpu_count()) as pool:
            masks = tqdm(pool.map(self._read, files), f"masks in {path}", len(files), unit="mask")
            for file, mask in zip(files, masks, strict=True):
                check_hole(mask, file, convention=convention)
                shares.append(float(mask.mean()))
        _warn_if_inverted(path, shares, convention)

    def __getitem__(self, i: int) -> np.ndarray:
        """The mask of picture i: uint8 {0, 1} [image_size, image_size, 1]."""
        return self._read(self._files[i])


def _read(file: Path, *, image_size: int, convention: str) -> np.ndarray:
    mask = resize_and_crop(read_mask(file, convention=convention) * np.uint8(255), image_size)
    return (mask >= 128).astype(np.uint8)


def _mask_files(folder: Path) -> list[Path]:
    """All pictures under a folder; what is left out is named in the log."""
    left_out: list[LeftOut] = []
    files = sorted(pictures_under(folder, left_out))
    if left_out:
        logging.warning("Masks in %s: %s", folder, describe(left_out))
    if not files:
        raise FileNotFoundError(f"No mask files in {str(folder)!r}.")
    return files


def _warn_if_inverted(path: str | Path, shares: Sequence[float], convention: str) -> None:
    """Holes are the smaller part of almost all mask sets: if not, the convention may be wrong."""
    if np.mean(shares) > 0.5:
        other = other_convention(convention)
        logging.warning(
            "Masks in %s look inverted: as %s, holes cover %.0f %% of them on average. If they "
            "were made the other way, set mask.convention to %s.",
            path, convention, 100 * np.mean(shares), other,
        )  # fmt: skip
