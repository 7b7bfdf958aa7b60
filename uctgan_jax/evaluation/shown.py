"""The pictures of an evaluation that are worth a look, and their completions."""

from collections.abc import Callable, Iterable

import numpy as np

from uctgan_jax.evaluation.evaluate import Complete, filled
from uctgan_jax.images import completion_sheet

_SHOWN_SAMPLES = 8  # completions a row of a contact sheet


def choose_pictures(measurements: list[dict], num_shown: int = 8) -> dict[str, list[int]]:
    """Pictures worth a look: title -> their places in the split, the most telling first.

    - "first pictures".
    - "most diverse" and "least diverse", by I_out(m), where there is more than one completion.
    - "best realism" and "worst realism", by the mean LPIPS of the completions to the truth.

    No picture is both among the most and the least: of few pictures, fewer are shown.
    """
    chosen = {"first pictures": [one["index"] for one in measurements[:num_shown]]}
    if measurements[0]["diversity"]:
        diverse = _extremes(measurements, num_shown, lambda m: m["diversity"]["lpips_hole"])
        chosen |= zip(("most diverse", "least diverse"), diverse, strict=False)
    real = _extremes(measurements, num_shown, lambda m: -np.mean(m["samples"]["lpips"]))
    return chosen | dict(zip(("best realism", "worst realism"), real, strict=False))


def _extremes(measurements, num_shown: int, value: Callable[[dict], float]) -> list[list[int]]:
    """The places with the greatest and the least values, or nothing of a single picture."""
    ordered = [one["index"] for one in sorted(measurements, key=value)]
    count = min(num_shown, len(ordered) // 2)
    return [ordered[: -count - 1 : -1], ordered[:count]] if count else []


def complete_pictures(
    complete: Complete, batches: Iterable[dict[str, np.ndarray]], indices: Iterable[int]
) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Makes completions of some pictures again, to look at.

    Args:
        complete, batches: as for `evaluate`.
        indices: the pictures' places in the split.

    Returns:
        Place in the split -> image uint8 [S, S, 3], mask uint8 [S, S, 1] and completions uint8
        [K, S, S, 3], composites.
    """
    wanted, shown = set(indices), {}
    batch_size = None
    for batch in batches:
        images, masks, index = batch["image"], batch["mask"], batch["index"]
        batch_size = batch_size or len(images)
        todo = [row for row in range(len(images)) if int(index[row]) in wanted]
        if todo:
            rows = filled(todo, batch_size)
            completions = complete(images[rows], masks[rows], index[rows])
            for row, drawn in zip(todo, completions, strict=False):
                composites = np.where(masks[row] == 1, drawn, images[row])
                shown[int(index[row])] = images[row], masks[row], composites
        if len(shown) == len(wanted):
            break
    return shown


def contact_sheets(
    complete: Complete,
    batches: Iterable[dict[str, np.ndarray]],
    chosen: dict[str, list[int]],
) -> dict[str, np.ndarray]:
    """Title -> a contact sheet, uint8 [H, W, 3], of the pictures that `choose_pictures` chose."""
    pictures = complete_pictures(complete, batches, sum(chosen.values(), []))
    sheets = {}
    for title, indices in chosen.items():
        images, masks, completions = map(
            np.stack, zip(*(pictures[i] for i in indices), strict=True)
        )
        sheets[title] = completion_sheet(images, masks, completions[:, :_SHOWN_SAMPLES])
    return sheets
