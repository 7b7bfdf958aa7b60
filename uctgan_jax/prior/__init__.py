"""The prior of codes given the masked picture, f_psi(Z_c | I_m): a part that can be exchanged.

The paper sets it to N(0, I) (`normal.py`). A learned one (`flow.py`) is trained on the codes of a
finished model by `train_prior.py`. Nothing outside this folder knows which of them a model has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks
from uctgan_jax.prior.flow import FlowPrior, VelocityNetwork
from uctgan_jax.prior.normal import NormalPrior

Array = jax.Array
PyTree = Any


class Prior(Protocol):
    """How codes are distributed under a condition.

    `condition` is what `summarize` makes of E2's maps, float32 [B, D].
    """

    def init(self, key: Array, condition: Array) -> PyTree:
        """Fresh parameters, `{}` if there are none; of `condition` the shape alone matters."""
        ...

    def loss(
        self, params: PyTree, mean: Array, log_variance: Array, condition: Array, keys: Array
    ) -> Array:
        """How badly the prior fits codes of N(mean, exp(log_variance)), each [B, Z]: [].

        `keys` is one `jax.random.key` a picture, [B].
        """
        ...

    def sample(self, params: PyTree, noise: Array, condition: Array) -> Array:
        """Codes of the manifold from standard-normal noise, [B, K, Z] each."""
        ...

    def invert(self, params: PyTree, codes: Array, condition: Array) -> Array:
        """The noise that `sample` makes these codes of, [B, K, Z] each."""
        ...


def summarize(condition: Sequence[Array]) -> Array:
    """What a prior sees of the condition: its coarsest map, and 2 x 2 means of the one before.

    The coarsest map alone says too little of a few known pixels, as of skin under a helmet's rim.

    Args:
      condition: the maps of E2, the coarsest last, each [B, h, w, C].

    Returns:
      float32 [B, D], D numbers for the two maps.
    """
    maps = [condition[-1], *map(blocks.downsample, condition[-2:-1])]
    return jnp.concatenate([x.reshape(x.shape[0], -1) for x in maps], axis=-1).astype(jnp.float32)


def build_prior(
    config: Mapping[str, Any] | None, *, code_dim: int, compute_dtype: str = "float32"
) -> Prior:
    """The prior of a saved model.

    Args:
      config: its fields as `configs/prior.py` has them; None for N(0, I).
      code_dim: size Z of the code.
      compute_dtype: "float32" or "bfloat16".

    Raises:
      ValueError: for a size below 1.
    """
    if config is None:
        return NormalPrior()
    for name, size in config.items():
        if size < 1:
            raise ValueError(f"prior.{name} ({size}) must be 1 or more")
    return FlowPrior(VelocityNetwork(code_dim=code_dim, dtype=jnp.dtype(compute_dtype), **config))
