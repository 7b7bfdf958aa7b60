"""The paper's prior: N(0, I), whatever the condition."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

Array = jax.Array
PyTree = Any


@dataclasses.dataclass(frozen=True)
class NormalPrior:
    """f_psi(Z_c | I_m) = N(0, I) [paper]: see `Prior`. The KL term holds codes to it."""

    def init(self, key: Array, condition: Array) -> PyTree:
        return {}

    def loss(
        self, params: PyTree, mean: Array, log_variance: Array, condition: Array, keys: Array
    ) -> Array:
        from uctgan_jax import losses  # inference does without

        return losses.kl_divergence(mean=mean, log_variance=log_variance)

    def sample(self, params: PyTree, noise: Array, condition: Array) -> Array:
        return noise

    def invert(self, params: PyTree, codes: Array, condition: Array) -> Array:
        return codes
