"""A learned prior: a velocity field carries standard-normal noise to codes of the manifold.

[Our addition.] Codes of the pictures that share a condition are not spread like N(0, I): they agree
about what the known pixels tell. A field that depends on the condition carries noise to where such
codes are (flow matching: Lipman et al., 2023; Liu et al., 2023). Followed backwards, it removes the
part of a code that its own surroundings tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import sample_code

Array = jax.Array
PyTree = Any

_NUM_FREQUENCIES = 16
# The layer that sees the condition, by its name among the parameters.
CONDITION_LAYER = "condition_in"


class VelocityNetwork(nn.Module):
    """The velocity of a code between noise, at time 0, and the manifold, at time 1.

    Attributes:
      code_dim: size Z of the code.
      condition_width: hidden units that see the condition.
      width: hidden units that see the code.
      num_blocks: residual blocks.
      dtype: compute type; parameters and velocities are float32.
    """

    code_dim: int
    condition_width: int = 512
    width: int = 256
    num_blocks: int = 3
    dtype: Any = jnp.float32

    def setup(self) -> None:
        def dense(features: int) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype)

        # One shift for each unit of the residual stream and of every block's hidden layer.
        num_shifts = self.width * (1 + 2 * self.num_blocks)
        self.condition_in = dense(self.condition_width)
        self.condition_out = dense(num_shifts)
        self.time_in = dense(num_shifts)
        self.code_in = dense(self.width)
        self.up = [dense(2 * self.width) for _ in range(self.num_blocks)]
        self.down = [dense(self.width) for _ in range(self.num_blocks)]
        self.norms = [nn.LayerNorm(dtype=self.dtype) for _ in range(self.num_blocks + 1)]
        self.velocity_out = nn.Dense(self.code_dim, kernel_init=nn.initializers.zeros)

    def embed(self, condition: Array) -> Array:
        """The condition [B, D] as shifts, [B, E]: the same for all codes and times of a picture."""
        return self.condition_out(nn.silu(self.condition_in(condition)))

    def __call__(self, codes: Array, time: Array, embedding: Array) -> Array:
        """The velocity at codes [..., Z] and times [...] under embeddings [..., E]: [..., Z].

        Leading axes broadcast.
        """
        frequencies = jnp.exp(jnp.linspace(0.0, 5.0, _NUM_FREQUENCIES))
        angles = time[..., None] * frequencies
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        ends = [self.width * (1 + 2 * block) for block in range(self.num_blocks)]
        first, *shifts = jnp.split(embedding + self.time_in(waves), ends, axis=-1)
        x = self.code_in(codes) + first
        for block, shift in enumerate(shifts):
            hidden = self.up[block](self.norms[block](x)) + shift
            x = x + self.down[block](nn.silu(hidden))
        return self.velocity_out(self.norms[-1](x).astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class FlowPrior:
    """Flow matching under the condition: see `Prior`.

    Attributes:
      network: of the velocity.
      num_steps: steps of Heun's method from noise to code.
      num_draws: codes of each picture that the loss looks at, at as many times.
    """

    network: VelocityNetwork
    num_steps: int = 8
    num_draws: int = 4

    def init(self, key: Array, condition: Array) -> PyTree:
        codes, time = jnp.zeros((1, self.network.code_dim)), jnp.zeros(1)
        return self.network.init(key, codes, time, condition[:1], method=_embed_and_call)["params"]

    def loss(
        self, params: PyTree, mean: Array, log_variance: Array, condition: Array, keys: Array
    ) -> Array:
        """`flow_matching_loss` of `num_draws` codes a picture; times spread evenly over [0, 1)."""
        shape = (2, self.num_draws, self.network.code_dim)
        draws = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
        noise, own_noise = draws[:, 0], draws[:, 1]
        shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1)))(keys)
        time = (jnp.arange(self.num_draws) + shift[:, None]) / self.num_draws
        codes = sample_code(own_noise, mean[:, None], log_variance[:, None])
        z_t = noise + time[..., None] * (codes - noise)
        return flow_matching_loss(
            velocity=self._velocity(params, condition)(z_t, time),
            z_t=z_t,
            time=time,
            mean=mean,
            log_variance=log_variance,
        )

    def sample(self, params: PyTree, noise: Array, condition: Array) -> Array:
        return self._integrate(self._velocity(params, condition), noise, start=0.0, end=1.0)

    def invert(self, params: PyTree, codes: Array, condition: Array) -> Array:
        return self._integrate(self._velocity(params, condition), codes, start=1.0, end=0.0)

    def _velocity(self, params: PyTree, condition: Array) -> Callable[[Array, Array], Array]:
        """The velocity of codes [B, K, Z] at times [] or [B, K]."""
        network = self.network.bind({"params": params})
        embedding = network.embed(condition)[:, None]
        return lambda codes, time: network(codes, time, embedding)

    def _integrate(
        self, velocity: Callable[[Array, Array], Array], codes: Array, *, start: float, end: float
    ) -> Array:
        """Follows a velocity field from one time to another by Heun's method."""
        step = (end - start) / self.num_steps

        def advance(number: Array, codes: Array) -> Array:
            time = start + number * jnp.float32(step)
            first = velocity(codes, time)
            second = velocity(codes + step * first, time + step)
            return codes + step / 2 * (first + second)

        # A loop, because unrolled the network is compiled twice for each step.
        return jax.lax.fori_loop(0, self.num_steps, advance, codes)


def flow_matching_loss(
    *, velocity: Array, z_t: Array, time: Array, mean: Array, log_variance: Array
) -> Array:
    """Mean squared error of the velocity from noise straight to a code, over Z.

    Lipman et al., 2023, with straight paths. Many pairs of noise and a code of
    N(mean, exp(log_variance)) pass through `z_t`: the target is the mean velocity of all of them,
    known in closed form. The gradient has the same mean as that of one drawn pair, and varies less.

    Args:
      velocity: at `z_t`, [B, N, Z].
      z_t: (1 - time) * noise + time * code, [B, N, Z].
      time: in [0, 1), [B, N].
      mean, log_variance: of the codes, [B, Z].
    """
    time, mean = time[..., None], mean[:, None]
    variance = jnp.exp(log_variance)[:, None]
    # The variance of z_t, and its covariance with the velocity, code - noise.
    spread = jnp.square(1.0 - time) + jnp.square(time) * variance
    covariance = time * variance - (1.0 - time)
    return jnp.mean(jnp.square(velocity - mean - covariance / spread * (z_t - time * mean)))


def _embed_and_call(network: VelocityNetwork, codes: Array, time: Array, condition: Array) -> Array:
    return network(codes, time, network.embed(condition))
