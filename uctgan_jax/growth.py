"""Models that begin as smaller ones, for pictures of twice the side.

What a code means takes long to learn, and hardly depends on how many pixels show it. So models for
small pictures are grown (Karras et al., 2018). The large model has the maps of the small one, and
patches of twice the side: its E1, E2 and D begin as those of the small one, seeing the means of
2 x 2 pixels. G has four times as many pixels to paint from the same maps, and may be wider: layers
that stay the same come along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import einops
import flax.traverse_util
import jax
import jax.numpy as jnp

PyTree = Any

# Who sees patches, and the numbers of a pixel there: colours, and the mask.
_PIXEL = {"projection": 3, "encoder": 4, "discriminator": 4}


def grown_sizes(small: Mapping[str, Any], generator_widths: Sequence[int]) -> dict[str, Any]:
    """The `image_size` and `model` of a config for the model that `small`, one with both, grows to.

    Pictures and patches have twice the side. G has `generator_widths`, if there are as many as
    before; all else is the same.
    """
    model = dict(small["model"])
    model["patch_size"] *= 2
    model["discriminator_patch_size"] *= 2
    if len(generator_widths) == len(model["generator_widths"]):
        model["generator_widths"] = generator_widths
    return {"image_size": 2 * small["image_size"], "model": model}


def grow(small: PyTree, fresh: PyTree, *, patch_size: int) -> PyTree:
    """The parameters that a large model begins with.

    Args:
      small: of the small model, `{"projection", "encoder", "generator", "discriminator"}`.
      fresh: those that the large model would begin with otherwise.
      patch_size: side of the small model's patches.

    Returns:
      The parameters as `fresh` has them: E1's, E2's and D's from `small`, and of G's layers and D's
      heads those that have the same sizes in both.
    """
    grown = {}
    for part, params in fresh.items():
        there = small[part]
        if part == "generator":
            grown[part] = {
                name: there[name] if _shapes(there[name]) == _shapes(layer) else layer
                for name, layer in params.items()
            }
            continue
        flat, flat_there = (flax.traverse_util.flatten_dict(tree) for tree in (params, there))
        for path, array in flat.items():
            if flat_there[path].shape == array.shape:
                flat[path] = flat_there[path]
            elif path == ("Conv_0", "kernel"):  # the first layer, which sees patches
                flat[path] = _spread(flat_there[path], _PIXEL[part], patch_size)
        grown[part] = flax.traverse_util.unflatten_dict(flat)
    return grown


def _spread(kernel: jax.Array, numbers: int, patch_size: int) -> jax.Array:
    """A convolution of patches, as one of patches of twice the side that sees 2 x 2 pixel means.

    [k, l, m*p*p*n, features] -> [k, l, m*4*p*p*n, features], for the n `numbers` of a pixel and m
    patches that D folds into one.
    """
    return einops.repeat(
        jnp.asarray(kernel) / 4,
        "k l (m p q n) f -> k l (m p i q j n) f",
        p=patch_size,
        q=patch_size,
        n=numbers,
        i=2,
        j=2,
    )


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.shape, tree)
