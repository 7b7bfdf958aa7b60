"""What training carries from step to step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from uctgan_jax.nets import Networks

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """The whole state of a run: with the config, it alone decides every later step."""

    step: jax.Array  # int32 []: steps taken
    generator_params: PyTree  # {"projection": E1, "encoder": E2, "generator": G}
    prior_params: PyTree  # the conditional prior
    discriminator_params: PyTree  # D
    spectral_norm: PyTree  # D's power-iteration vectors and singular values
    generator_opt_state: optax.OptState  # of those that are not frozen
    prior_opt_state: optax.OptState
    discriminator_opt_state: optax.OptState
    ema_params: PyTree  # moving averages, see `Networks.init_generator`
    nonfinite_steps: jax.Array  # int32 []: steps in a row that were skipped as non-finite


@flax.struct.dataclass
class Optimizers:
    """One for each player: E1, E2 and G together, the prior, and D."""

    generator: optax.GradientTransformation = flax.struct.field(pytree_node=False)
    prior: optax.GradientTransformation = flax.struct.field(pytree_node=False)
    discriminator: optax.GradientTransformation = flax.struct.field(pytree_node=False)


def create_train_state(
    key: jax.Array, networks: Networks, optimizers: Optimizers, frozen: Sequence[str] = ()
) -> TrainState:
    """A fresh state, float32 throughout, from one `jax.random.key`.

    `frozen` are the parts of `generator_params` that no step will move.
    """
    generator_key, discriminator_key = jax.random.split(key)
    generator_params = networks.init_generator(generator_key)
    # A copy: the state is donated, and no buffer may be donated twice.
    ema_params = jax.tree.map(jnp.copy, generator_params)
    prior_params = generator_params.pop("prior")
    del generator_params["guide"]  # an average, never trained itself
    discriminator_params, spectral_norm = networks.init_discriminator(discriminator_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator_params=generator_params,
        prior_params=prior_params,
        discriminator_params=discriminator_params,
        spectral_norm=spectral_norm,
        generator_opt_state=optimizers.generator.init(trained(generator_params, frozen)),
        prior_opt_state=optimizers.prior.init(prior_params),
        discriminator_opt_state=optimizers.discriminator.init(discriminator_params),
        ema_params=ema_params,
        nonfinite_steps=jnp.zeros((), jnp.int32),
    )


def trained(generator_params: Mapping[str, PyTree], frozen: Sequence[str]) -> dict[str, PyTree]:
    """Those of E1, E2 and G that are not frozen."""
    return {name: params for name, params in generator_params.items() if name not in frozen}
