"""How training goes, seen on held-out pictures: sample sheets, and one figure to choose by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import clu.asynclib
import jax
import jax.numpy as jnp
import numpy as np

from uctgan_jax import images as host_images
from uctgan_jax.inpainting import complete_codes, reconstruct_pictures, sample_normal
from uctgan_jax.nets import Networks
from uctgan_jax.train_state import TrainState

NUM_PICTURES = 32
_NUM_DRAWN = 8
_NUM_SAMPLES = 6


class HeldOut:
    """The same held-out pictures at every visit."""

    def __init__(self, networks: Networks, batch: Mapping[str, np.ndarray], folder: Path):
        """Takes a batch of `NUM_PICTURES` or fewer, and the folder for the sheets."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._batch = batch
        self._writer = clu.asynclib.Pool("samples", max_workers=1)

        @jax.jit
        def complete(params: Any, images: jax.Array, masks: jax.Array) -> jax.Array:
            """Completions with codes from N(0, I) and, last, with the picture's own."""
            keys = jax.random.split(jax.random.key(0), images.shape[0])
            codes = sample_normal(keys, _NUM_SAMPLES, networks.code_dim)
            drawn = complete_codes(networks, params, images, masks, codes)
            own = reconstruct_pictures(networks, params, images, masks)
            return jnp.concatenate([drawn, own[:, None]], axis=1)

        self._complete = complete

    def __enter__(self) -> HeldOut:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._writer.join()

    def visit(self, state: TrainState, *, draw: bool) -> float:
        """Measures averaged parameters and, if asked, draws `<step>.png` in the background.

        Returns:
            The reconstruction error in the hole: mean abs(I_r - I_g) over the held-out holes, in
            [0, 2]. It falls while the networks learn; diversity and realism it cannot tell.
        """
        images, masks = self._batch["image"], self._batch["mask"]
        completions = np.asarray(self._complete(state.ema_params, images, masks))
        if draw and jax.process_index() == 0:
            self._writer(self._write_sheet)(int(state.step), completions[:_NUM_DRAWN, :-1])
        errors = np.abs(completions[:, -1].astype(np.float64) - images) / 127.5
        return float(errors.mean(axis=-1, keepdims=True)[masks > 0].mean())

    def _write_sheet(self, step: int, completions: np.ndarray) -> None:
        images, masks = (self._batch[name][:_NUM_DRAWN] for name in ("image", "mask"))
        sheet = host_images.completion_sheet(images, masks, completions)
        host_images.write_image(self._folder / f"{step:08d}.png", sheet)
