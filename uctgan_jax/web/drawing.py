"""Completions of one picture for the page: many at once, and one between two of them."""

import dataclasses

import numpy as np

from uctgan_jax.inpainting.image_file import Picture
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.inpainting.interpolation import interpolate
from uctgan_jax.web.pictures import refusal

NUM_SAMPLES = (4, 8, 12, 16)
WALK_STEPS = 20
REFERENCE = "reference"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """The completions of one press of "Complete", as their codes.

    Attributes:
        picture: the picture that was completed.
        mask: uint8 [H, W], 1 = hole.
        codes: float32 [K, Z], a code a completion.
        names: K captions.
    """

    picture: Picture
    mask: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...]


def draw(
    inpainter: Inpainter,
    picture: Picture,
    mask: np.ndarray,
    *,
    num_samples: int,
    seed: int | None,
    select: str | None = None,
    reference: np.ndarray | None = None,
) -> tuple[Drawing, list[np.ndarray]]:
    """Completes a picture in many ways, and once more after a reference picture if there is one.

    Args: as for `Inpainter.complete`, but for `picture`, whose pixels are completed.

    Returns:
        The drawing and its K completions, uint8 [H, W, 3]; the reference's is the last.

    Raises: gr.Error for a number that the page does not offer, or what the model refuses.
    """
    if num_samples not in NUM_SAMPLES:
        raise refusal(f"How many must be one of {', '.join(map(str, NUM_SAMPLES))}.")
    if seed is None or not 0 <= seed < 2**31:
        raise refusal("The draw must be a number from 0 to 2147483647.")
    try:
        made = [inpainter.complete(picture.pixels, mask, num_samples, seed, select=select)]
        if reference is not None:
            made.append(inpainter.complete(picture.pixels, mask, instances=[reference]))
    except ValueError as error:
        raise refusal(str(error)) from error
    codes = np.concatenate([completions.codes for completions in made])
    completed = [image for completions in made for image in completions.images]
    names = [str(k + 1) for k in range(num_samples)] + [REFERENCE] * (reference is not None)
    return Drawing(picture, mask, codes, tuple(names)), completed


def walk(
    inpainter: Inpainter, drawing: Drawing, *, start: int, end: int, percent: float
) -> np.ndarray:
    """The completion between two codes of a drawing.

    Args:
        start, end: numbers of two completions of the drawing, from 0.
        percent: from 0, the start, to 100, the end.

    Returns:
        uint8 [H, W, 3].
    """
    codes = interpolate(drawing.codes[start], drawing.codes[end], WALK_STEPS + 1)
    place = round(float(np.clip(percent, 0, 100)) / 100 * WALK_STEPS)
    completions = inpainter.complete(
        drawing.picture.pixels, drawing.mask, codes=np.asarray(codes)[place : place + 1]
    )
    return completions.images[0]
