"""The pictures of a folder run, each with its mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from uctgan_jax.files import InputFile
from uctgan_jax.images import name_of
from uctgan_jax.picture_folders import (
    MASK_ENDING,
    LeftOut,
    PictureIndex,
    picture_name,
    pictures_under,
)


class Pair(NamedTuple):
    """A picture of a folder run, and its mask if it has one."""

    name: str
    image: Path
    mask: Path | InputFile | None


@dataclass
class Pairs:
    """The pictures of a folder and their masks, found anew whenever they are gone through.

    Only one folder's names are held at a time. See `pair_files`.

    Attributes:
        images: the folder of pictures.
        masks: the folder of masks, which may be `images`, or one mask for all pictures.
        left_out: what the latest pass has left out, so far.
        count: how many there were when they were first gone through.
    """

    images: Path
    masks: Path | InputFile
    left_out: list[LeftOut] = field(default_factory=list)
    count: int = 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Pair]:
        self.left_out.clear()
        images, masks = PictureIndex(self.images), self.masks
        mask_index = images if isinstance(masks, InputFile) else PictureIndex(masks)
        for file in pictures_under(self.images, self.left_out):
            name = picture_name(file, self.images)
            images.find(name)  # complains about two of one name
            if isinstance(masks, InputFile):
                if file.name == masks.path.name and file.samefile(masks.path):
                    self.left_out.append(LeftOut(file, "the mask itself"))
                else:
                    yield Pair(name, file, masks)
            elif masks != self.images:
                yield Pair(name, file, mask_index.find_mask(name))
            elif not _is_mask_of(images, name):
                yield Pair(name, file, images.find(name + MASK_ENDING))
        if not isinstance(masks, InputFile) and masks != self.images:
            for file in pictures_under(masks, self.left_out):
                name = picture_name(file, masks)
                if images.find(name) is None and not _is_mask_of(images, name):
                    self.left_out.append(LeftOut(file, "a mask of no picture"))


def _is_mask_of(images: PictureIndex, name: str) -> bool:
    """Whether a name is that of a picture with `_mask` after it."""
    picture = name.removesuffix(MASK_ENDING)
    return picture != name and images.find(picture) is not None


def pair_files(
    images: str | Path, masks: str | Path | InputFile | None, output: str | Path
) -> Pairs:
    """Finds the pictures of a folder and the mask of each.

    A picture's name is its relative path without ending. Its mask has the same name in `masks`, or
    the same with `_mask` after it.

    Args:
        images: folder of picture files, at any depth.
        masks: folder of mask files of the same structure; None for masks that lie beside their
            pictures as `NAME_mask`; or one mask for all pictures, see `files.read_input`.
        output: where the completions will go.

    Raises:
        FileNotFoundError: a folder that is missing or holds no pictures.
        ValueError: two files of one name, no pair at all, or one folder inside another, where the
            next run would take completions or masks for pictures.
    """
    images, output = Path(images), Path(output)
    masks = images if masks is None else masks
    folders = {"images": images, "output": output}
    if not isinstance(masks, InputFile):
        masks = Path(masks)
        if masks.resolve() == images.resolve():
            masks = images
        else:
            folders["masks"] = masks
    for name, folder in folders.items():
        for other_name, other in folders.items():
            if name != other_name and folder.resolve().is_relative_to(other.resolve()):
                raise ValueError(f"{name} ({folder}) must not lie in {other_name} ({other})")
    pairs = Pairs(images, masks)
    first, has_pair = None, False
    for pair in pairs:  # all of them: to find two of one name now, and not after hours
        first = first or pair
        has_pair = has_pair or pair.mask is not None
        pairs.count += 1
    if first is None:
        raise FileNotFoundError(f"{images}: no pictures in this folder")
    if not has_pair:
        raise ValueError(
            f"no picture in {images} has a mask of its name, with or without {MASK_ENDING}, in"
            f" {name_of(masks)}: the first picture is {first.name!r}"
        )
    return pairs
