"""How training goes, seen on held-out pictures: sample sheets, and figures to choose by."""

from __future__ import annotations

from collections.abc import Mapping
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
from uctgan_jax.train_state import TrainState
from uctgan_jax.train_step import make_encoder, prior_loss

NUM_PICTURES = 128
_NUM_DRAWN = 8
_NUM_SAMPLES = 6
_NUM_PRIOR_DRAWS = 16


class HeldOut:
    """The same held-out pictures at every visit."""

    def __init__(self, networks: Networks, batch: Mapping[str, np.ndarray], folder: Path):
        """Takes a batch of `NUM_PICTURES` or fewer, and the folder for the sheets."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._batch = batch
        self._writer = clu.asynclib.Pool("samples", max_workers=1)
        encode = make_encoder(networks)

        @jax.jit
        def look(params: Any, images: jax.Array, masks: jax.Array) -> tuple[jax.Array, ...]:
            """Completions of the first with codes from N(0, I), reconstructions, prior's loss."""
            keys = jax.random.split(jax.random.key(0), len(images))
            first = slice(_NUM_DRAWN)
            codes = sample_normal(keys[first], _NUM_SAMPLES, networks.code_dim)
            completions = complete_codes(networks, params, images[first], masks[first], codes)
            own = reconstruct_pictures(networks, params, images, masks)
            patches = {
                "image": networks.to_patches(images),
                "mask": networks.to_patches(masks),
            }
            encoded = encode(params, patches)
            loss = prior_loss(
                params["prior"],
                networks,
                encoded["mean"],
                encoded["log_variance"],
                [encoded["condition"].astype(jnp.float32)],
                keys,
                _NUM_PRIOR_DRAWS,
            )
            return completions, own, loss

        self._look = look

    def __enter__(self) -> HeldOut:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._writer.join()

    def visit(self, state: TrainState, *, draw: bool) -> dict[str, float]:
        """Measures averaged parameters and, if asked, draws `<step>.png` in the background.

        Returns:
            `reconstruction_hole`, the error in the hole: mean abs(I_r - I_g) over the held-out
            holes, in [0, 2]. It falls while the networks learn; diversity and realism it cannot
            tell. And `prior`, the loss of the prior, of the same codes and times at every visit:
            where it rises while that of training falls, the prior learns by heart.
        """
        images, masks = self._batch["image"], self._batch["mask"]
        completions, own, loss = self._look(state.ema_params, images, masks)
        if draw and jax.process_index() == 0:
            self._writer(self._write_sheet)(int(state.step), np.asarray(completions))
        errors = np.abs(np.asarray(own, np.float64) - images) / 127.5
        return {
            "reconstruction_hole": float(errors.mean(axis=-1, keepdims=True)[masks > 0].mean()),
            "prior": float(loss),
        }

    def _write_sheet(self, step: int, completions: np.ndarray) -> None:
        images, masks = (self._batch[name][:_NUM_DRAWN] for name in ("image", "mask"))
        sheet = host_images.completion_sheet(images, masks, completions)
        path = self._folder / f"{step:08d}.png"
        try:
            host_images.write_image(path, sheet)
        except OSError as error:  # no reason to end a run
            logging.warning("sample sheet %s was not written: %s", path, error)
