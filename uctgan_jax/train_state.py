"""What training carries from step to step."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from uctgan_jax.nets import Networks
from uctgan_jax.optimizers import Optimizers

PyTree = Any


@flax.struct.dataclass
class TrainState:
    """The whole state of a run: with the config, it alone decides every later step."""

    step: jax.Array  # int32 []: steps taken
    generator_params: PyTree  # {"projection": E1, "encoder": E2, "generator": G}
    discriminator_params: PyTree  # D
    generator_opt_state: optax.OptState
    discriminator_opt_state: optax.OptState
    ema_params: PyTree  # moving average of `generator_params`: completion uses these
    nonfinite_steps: jax.Array  # int32 []: steps in a row that were skipped as non-finite

    @property
    def model(self) -> dict[str, PyTree]:
        """What inference needs: averaged E1, E2 and G, and D as it is, which ranks completions."""
        return self.ema_params | {"discriminator": self.discriminator_params}


def create_train_state(key: jax.Array, networks: Networks, optimizers: Optimizers) -> TrainState:
    """A fresh state, float32 throughout, from one `jax.random.key`."""
    generator_key, discriminator_key = jax.random.split(key)
    generator_params = networks.init_generator(generator_key)
    discriminator_params = networks.init_discriminator(discriminator_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        generator_params=generator_params,
        discriminator_params=discriminator_params,
        generator_opt_state=optimizers.generator.init(generator_params),
        discriminator_opt_state=optimizers.discriminator.init(discriminator_params),
        # A copy: the state is donated, and no buffer may be donated twice.
        ema_params=jax.tree.map(jnp.copy, generator_params),
        nonfinite_steps=jnp.zeros((), jnp.int32),
    )
