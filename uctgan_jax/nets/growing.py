"""A trained model's parameters, for pictures of twice the size or more.

Networks whose pictures and patches are both larger by one factor have maps of the same size and
differ in the layers alone that read or write patches. Those are made here such that the grown
networks see the mean of each square of pixels and paint it in one colour: at first they do what
the smaller ones did on smaller pictures, and training adds the detail. (Growing GANs by size is
Karras et al., 2018; there by new layers.)
"""

from __future__ import annotations

from typing import Any

import einops
import jax
import numpy as np

PyTree = Any


def grow(params: PyTree, shapes: PyTree, *, patch_size: int, factor: int) -> PyTree:
    """Parameters of E1, E2, the prior and G for patches that are `factor` times as large.

    Args:
      params: of the smaller networks, which differ in the size of patches and pictures alone.
      shapes: the same tree with the shapes of the grown ones.
      patch_size: of the smaller networks.
      factor: an integer.

    Returns:
      The tree, as numpy arrays.
    """

    sizes = dict(p=patch_size, q=patch_size, i=factor, j=factor)

    def fit(shape: jax.ShapeDtypeStruct, array: np.ndarray) -> np.ndarray:
        if array.shape == shape.shape:
            return np.asarray(array)
        # Patches are written by the last axis (features) and read by the one before it.
        if array.shape[:-1] == shape.shape[:-1]:
            return einops.repeat(np.asarray(array), "... (p q c) -> ... (p i q j c)", **sizes)
        array = np.asarray(array) / np.float32(factor**2)
        return einops.repeat(array, "... (p q c) f -> ... (p i q j c) f", **sizes)

    return jax.tree.map(fit, shapes, params)
