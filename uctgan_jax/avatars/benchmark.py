"""The exact-posterior benchmark: completions of `avatars` against the true posterior.

Each system completes the same portraits with the face hidden, K times each. What it should have
drawn is known exactly (`posterior.py`). So its set of completions is judged, not only its nearness
to one truth. An independent run of the oracle is judged like any other system: its figures are the
best possible at this N and K.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np
from tqdm import tqdm

from uctgan_jax.avatars.dataset import ATTRIBUTES, FACE_ATTRIBUTES, sample_attributes
from uctgan_jax.avatars.posterior import FACE_WINDOW, Posterior
from uctgan_jax.data.masks import MaskOptions, draw_mask
from uctgan_jax.evaluation.completion import at_step
from uctgan_jax.evaluation.evaluate import picture_keys
from uctgan_jax.evaluation.measure import fill_with_mean_colour
from uctgan_jax.evaluation.metrics.diversity import hole_box, select_pairs
from uctgan_jax.evaluation.metrics.frechet import frechet_distance
from uctgan_jax.evaluation.metrics.lpips import MIN_SIZE, lpips_pairs, vgg16_features
from uctgan_jax.images import contact_sheet
from uctgan_jax.preprocess import normalize

# Root mean square over the hole, on [0, 1], up to which a completion counts as an element of the
# support that is drawn imprecisely; docs/evaluation.md says how it was chosen.
VALID_DISTANCE = 0.05

# What each figure would be for a perfect system with endless draws.
FIGURES = {
    "validity": 1.0,
    "distance": 0.0,
    "mode_recall": 1.0,
    "calibration": 0.0,
    "diversity_ratio": 1.0,
    "realism": 0.0,
    "skin_agreement": 1.0,
}

_NUM_SHOWN = 6  # portraits on the contact sheet
_SHOWN_SAMPLES = 3  # completions of each system on a row of it

# From a portrait's posterior and its index to K completions, uint8 [K, S, S, 3].
System = Callable[[Posterior, int], np.ndarray]


def benchmark(
    systems: dict[str, System],
    *,
    image_size: int,
    num_examples: int,
    num_samples: int,
    split: str = "test",
    seed: int = 0,
) -> tuple[dict, np.ndarray]:
    """Judges systems on the first `num_examples` portraits of a split.

    Args:
        systems: name -> system; see `oracle`, `model`, `own_codes`, `mean_colour_fill` and
            `telea`.
        image_size: the portraits' side.
        num_samples: K, at least 2.
        seed: of the reference draws.

    Returns:
        The report, a dict that JSON can hold, and a contact sheet, uint8 [H, W, 3]: the masked
        portrait, the truth, and completions of each system. In the report `figures` has system ->
        figure -> value (`FIGURES` has the ideals):

        - `validity`: share of completions within `VALID_DISTANCE` of the support.
        - `distance`: mean distance to the support.
        - `mode_recall`: different valid modes met in K draws, over those that the oracle meets.
        - `calibration`: total variation between the attribute's values as read back from all
          completions and the posterior's, averaged over facial attributes.
        - `calibration_by_attribute`: the same, one by one.
        - `diversity_ratio`: LPIPS I_out(m) between completions, over the oracle's.
        - `realism`: FD-vgg16 between the hole's crops and the oracle's.
        - `skin_agreement`: share of completions whose bare skin in the hole has the known colour.
        - `known_pixels_identical`: whether all known pixels are as they were.

    Raises:
        ValueError: fewer than 2 samples, or a hole that the posterior cannot be computed for.
    """
    pairs = select_pairs(num_samples)
    mask = draw_mask(
        np.random.default_rng(0), MaskOptions("window", region=FACE_WINDOW), image_size=image_size
    )
    reference = _Tally(mask, pairs)
    tallies = {name: _Tally(mask, pairs) for name in systems}
    rows = []
    for index in tqdm(range(num_examples), desc="posterior", unit="portrait"):
        posterior = Posterior(sample_attributes(split, index), mask)
        reference.add(posterior, posterior.sample(_rng(seed, 0, index), num_samples))
        row = [np.where(mask == 1, np.uint8(128), posterior.image), posterior.image]
        for name, system in systems.items():
            completions = system(posterior, index)
            tallies[name].add(posterior, completions)
            row.extend(completions[:_SHOWN_SAMPLES])
        if len(rows) < _NUM_SHOWN:
            rows.append(row)
    heads = [name for name in systems for _ in range(min(num_samples, _SHOWN_SAMPLES))]
    sheet = contact_sheet(rows, labels=["masked", "truth", *heads])
    report = {
        "figures": {name: tally.figures(reference) for name, tally in tallies.items()},
        "ideal": FIGURES,
        "valid_distance": VALID_DISTANCE,
        "num_examples": num_examples,
        "num_samples": num_samples,
        "seed": seed,
        "skin_readable_examples": len(reference.skin),
    }
    return report, sheet


def benchmark_model(
    inpainter,
    earlier: list,
    *,
    image_size: int,
    num_examples: int,
    num_samples: int,
    split: str = "test",
    seed: int = 0,
) -> tuple[dict, dict[str, np.ndarray]]:
    """Judges a model beside its own codes, the oracle and two baselines.

    Args:
        inpainter: the model.
        earlier: earlier checkpoints of it, the oldest first, for the curves over training.
        image_size, num_examples, num_samples, split, seed: as for `benchmark`.

    Returns:
        The report of `benchmark`, with `training` if there are earlier checkpoints; and title ->
        contact sheet, uint8 [H, W, 3].
    """
    checkpoints = {f"step {one.step}": one for one in earlier} | {"model": inpainter}
    systems = {name: model(one, num_samples, seed) for name, one in checkpoints.items()}
    report, sheet = benchmark(
        {
            **systems,
            "own codes": own_codes(inpainter, num_samples, seed),
            "oracle": oracle(num_samples, seed),
            "mean colour": mean_colour_fill(num_samples),
            "telea": telea(num_samples),
        },
        image_size=image_size,
        num_examples=num_examples,
        num_samples=num_samples,
        split=split,
        seed=seed,
    )
    if earlier:
        report["training"] = [
            at_step(one, {"figures": report["figures"][name]}) for name, one in checkpoints.items()
        ]
    return report, {"first pictures": sheet}


def oracle(num_samples: int, seed: int = 0) -> System:
    """Exact posterior draws, independent of the reference draws of the same seed."""
    return lambda posterior, index: posterior.sample(_rng(seed, 1, index), num_samples)


def model(inpainter, num_samples: int, seed: int = 0) -> System:
    """A trained model; completions of portrait i use the key `fold_in(key(seed), i)`."""

    def complete(posterior, index):
        keys = picture_keys(seed, [index])
        return inpainter.sample(posterior.image[None], posterior.mask[None], keys, num_samples)[0]

    return complete


def own_codes(inpainter, num_samples: int, seed: int = 0) -> System:
    """The oracle's draws, each completed with its own code: the model with a perfect prior.

    Errors here are those of E1 and G. Only what `model` misses beyond them is the prior's.
    """
    draw = oracle(num_samples, seed)

    def complete(posterior, index):
        portraits = draw(posterior, index)
        return inpainter.reconstruct(portraits, np.stack([posterior.mask] * num_samples))

    return complete


def mean_colour_fill(num_samples: int) -> System:
    """The hole in the known pixels' mean colour, K times the same."""

    def complete(posterior, index):
        return np.stack([fill_with_mean_colour(posterior.image, posterior.mask)] * num_samples)

    return complete


def telea(num_samples: int) -> System:
    """OpenCV's inpainting of Telea 2004, radius 3, K times the same."""

    def complete(posterior, index):
        filled = cv2.inpaint(posterior.image, posterior.mask[..., 0], 3, cv2.INPAINT_TELEA)
        return np.stack([filled] * num_samples)

    return complete


def _rng(seed, stream, index):
    return np.random.default_rng([seed, stream, index])


def _crops(completions, mask) -> np.ndarray:
    """The hole's box of every completion, float32, enlarged to LPIPS's least side, bilinearly.

    Published figures of the bundled models hold for these crops, not for those of 64 px that other
    protocols have.
    """
    rows, columns = hole_box(mask)
    crops = normalize(completions[:, rows, columns])
    height, width = crops.shape[1:3]
    factor = math.ceil(MIN_SIZE / min(height, width))
    if factor == 1:
        return crops
    side = (width * factor, height * factor)
    return np.stack([cv2.resize(crop, side, interpolation=cv2.INTER_LINEAR) for crop in crops])


class _Tally:
    """The readings of one system's completions, over all portraits so far."""

    def __init__(self, mask, pairs):
        self.mask, self.pairs = mask, pairs
        self.distance, self.modes, self.lpips, self.features = [], [], [], []
        self.skin = []  # share of completions with the known skin, where it can be told
        self.read = {name: 0 for name in FACE_ATTRIBUTES}
        self.true = {name: 0 for name in FACE_ATTRIBUTES}
        self.identical = True

    def add(self, posterior, completions):
        known = self.mask[..., 0] == 0
        self.identical &= bool((completions == posterior.image)[:, known].all())
        reading = posterior.read(completions)
        self.distance.append(reading.distance)
        valid = reading.distance <= VALID_DISTANCE
        self.modes.append(len({m for m, v in zip(reading.mode, valid, strict=True) if v}))
        for name in FACE_ATTRIBUTES:
            self.read[name] += reading.weights[name].mean(axis=0)
            support = posterior.support[name]
            self.true[name] += np.bincount(support, minlength=len(ATTRIBUTES[name])) / len(support)
        if reading.skin is not None:
            self.skin.append((reading.skin == posterior.attributes["skin"]).mean())
        crops = _crops(completions, self.mask)
        self.lpips.append(lpips_pairs(crops, self.pairs).mean())
        self.features.append(vgg16_features(crops))

    def figures(self, reference):
        variation = {
            name: float(np.abs(self.read[name] - self.true[name]).sum() / 2 / len(self.modes))
            for name in FACE_ATTRIBUTES
        }
        distance = np.stack(self.distance)
        return {
            "validity": float((distance <= VALID_DISTANCE).mean()),
            "distance": float(distance.mean()),
            "mode_recall": sum(self.modes) / sum(reference.modes),
            "calibration": float(np.mean(list(variation.values()))),
            "calibration_by_attribute": variation,
            "diversity_ratio": float(np.mean(self.lpips) / np.mean(reference.lpips)),
            "realism": frechet_distance(
                np.concatenate(self.features), np.concatenate(reference.features)
            ),
            "skin_agreement": float(np.mean(self.skin)) if self.skin else None,
            "known_pixels_identical": self.identical,
        }
