"""How training goes, seen on held-out pictures: sample sheets, and figures to choose by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import clu.asynclib
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from uctgan_jax import images as host_images
from uctgan_jax.inpainting.sampler import complete_codes, reconstruct_pictures, sample_normal
from uctgan_jax.nets import Networks
from uctgan_jax.preprocess import normalize
from uctgan_jax.prior import Prior, summarize

PyTree = Any
# See `outputs`.
Evaluate = Callable[[PyTree, jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]

NUM_PICTURES = 128
NUM_DRAWN = 8  # pictures on a sheet
NUM_SAMPLES = 6  # completions of each


def outputs(
    networks: Networks, prior: Prior, params: PyTree, images: jax.Array, masks: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a model is judged by, with the same noise at every call.

    Args:
        networks, prior: of the model.
        params: `{"projection", "encoder", "generator"}`, and "prior" for a learned one.
        images: uint8 [B, S, S, 3].
        masks: uint8 [B, S, S, 1], 1 = hole.

    Returns:
        Completions of the first pictures, uint8 [NUM_DRAWN, NUM_SAMPLES, S, S, 3]; completions of
        all with their own codes, uint8 [B, S, S, 3]; and the prior's loss.
    """
    keys = jax.random.split(jax.random.key(0), len(images))
    first = slice(NUM_DRAWN)
    codes = sample_normal(keys[first], NUM_SAMPLES, networks.code_dim)
    drawn = complete_codes(networks, prior, params, images[first], masks[first], codes)
    own = reconstruct_pictures(networks, params, images, masks)
    image = normalize(networks.to_patches(images))
    mask = networks.to_patches(masks).astype(jnp.float32)
    mean, log_variance = networks.project(params, image)
    condition = summarize(networks.encode(params, image, mask))
    loss = prior.loss(params.get("prior", {}), mean, log_variance, condition, keys)
    return drawn, own, loss


class Validator:
    """The same held-out pictures and holes at every visit."""

    def __init__(self, evaluate: Evaluate, batch: Mapping[str, np.ndarray], folder: Path):
        """Prepares to validate.

        Args:
            evaluate: `outputs` of a model, from its parameters, images and masks.
            batch: `image` uint8 [B, S, S, 3] and `mask` uint8 [B, S, S, 1], 1 = hole, with B of
                `NUM_PICTURES` or fewer.
            folder: for the sheets; made if missing.
        """
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._batch = batch
        self._writer = clu.asynclib.Pool("samples", max_workers=1)
        self._evaluate = jax.jit(evaluate)

    def __enter__(self) -> Validator:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._writer.join()

    def validate(self, params: PyTree, *, step: int, draw: bool) -> dict[str, float]:
        """Measures a model and, if asked, draws `<step>.png` in the background.

        Args:
            params: of the model, as `evaluate` takes them.
            step: of the run.
            draw: whether to draw a sheet of completions.

        Returns:
            `reconstruction_hole`, mean abs(I_r - I_g) over the held-out holes, in [0, 2]; and
            `prior`, the prior's loss, with the same noise at every visit: for N(0, I) the KL
            divergence of the codes in nats. Diversity and realism neither can tell.
        """
        images, masks = self._batch["image"], self._batch["mask"]
        drawn, own, loss = self._evaluate(params, images, masks)
        if draw and jax.process_index() == 0:
            self._writer(self._write_sheet)(step, np.asarray(drawn))
        errors = np.abs(np.asarray(own, np.float64) - images) / 127.5
        return {
            "reconstruction_hole": float(errors.mean(axis=-1, keepdims=True)[masks > 0].mean()),
            "prior": float(loss),
        }

    def _write_sheet(self, step: int, completions: np.ndarray) -> None:
        images, masks = (self._batch[name][:NUM_DRAWN] for name in ("image", "mask"))
        sheet = host_images.completion_sheet(images, masks, completions)
        path = self._folder / f"{step:08d}.png"
        try:
            host_images.write_image(path, sheet)
        except OSError as error:  # no reason to end a run
            logging.warning("sample sheet %s was not written: %s", path, error)
