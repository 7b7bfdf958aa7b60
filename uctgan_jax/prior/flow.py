"""The conditional prior f_psi(Z_c | I_m): standard-normal codes to codes of the manifold, and back.

[paper: a prior of the code given the masked picture, set to N(0, I); our choice: to learn it.]
E1's codes of the pictures that look like I_m outside the hole are not spread like N(0, I), however
hard the KL term pulls: they agree about what the known pixels tell. So a code drawn from N(0, I) is
carried along a learned velocity field, which depends on the condition, to where such codes are
(flow matching: Lipman et al., 2023; Liu et al., 2023). The way can be gone backwards too: what
another picture's code says beyond its own known pixels is a standard-normal code again.

What the field has not learned yet, a worse copy has learned even less: where the two differ is
where both are wrong, and going on from the worse past the better lessens the error (autoguidance:
Karras et al., 2024, "Guiding a Diffusion Model with a Bad Version of Itself").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from uctgan_jax.nets import blocks

Array = jax.Array
# Of codes [..., Z] at times [...] or []: [..., Z].
Velocity = Callable[[Array, Array], Array]

# Steps of Heun's method from one end to the other.
_NUM_STEPS = 8
_NUM_FREQUENCIES = 16
# Their names among the prior's parameters: what sees the condition, and what sees that.
CONDITION_LAYER = "of_condition_0"
EMBEDDING_LAYER = "of_condition_1"
# Of guidance, as a share of the velocity.
_LONGEST_CORRECTION = 0.5


class ConditionalPrior(nn.Module):
    """The velocity of a code on its way from N(0, I), at time 0, to the manifold, at time 1.

    Attributes:
      code_dim: size Z of the code.
      condition_width: hidden units that see the condition.
      width: hidden units that see the code.
      num_blocks: residual blocks.
      dtype: compute type; parameters and velocities are float32.
    """

    code_dim: int
    condition_width: int
    width: int = 256
    num_blocks: int = 3
    dtype: Any = jnp.float32

    def setup(self) -> None:
        def dense(features: int, **options: Any) -> nn.Dense:
            return nn.Dense(features, dtype=self.dtype, **options)

        # One number for each unit of the stream and of every block's hidden layer.
        steers = self.width * (1 + 2 * self.num_blocks)
        self.of_condition = [dense(self.condition_width), dense(steers)]
        self.of_time = dense(steers)
        self.of_code = dense(self.width)
        self.into = [dense(2 * self.width) for _ in range(self.num_blocks)]
        self.out_of = [dense(self.width) for _ in range(self.num_blocks)]
        self.norms = [nn.LayerNorm(dtype=self.dtype) for _ in range(self.num_blocks + 1)]
        self.velocity = nn.Dense(self.code_dim, kernel_init=nn.initializers.zeros)

    def embed(self, condition: Sequence[Array]) -> Array:
        """What the velocity takes of the condition, see `flat`: [B, E].

        The same for all codes of a picture and all the way, so computed once.
        """
        first, second = self.of_condition
        return second(nn.silu(first(flat(condition))))

    def __call__(self, code: Array, time: Array, embedding: Array) -> Array:
        """The velocity at codes [..., Z] and times [...] under embeddings [..., E]: [..., Z].

        Leading axes broadcast.
        """
        frequencies = jnp.exp(jnp.linspace(0.0, 5.0, _NUM_FREQUENCIES))
        angles = time[..., None] * frequencies
        waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        ends = [self.width * (1 + 2 * block) for block in range(self.num_blocks)]
        first, *steers = jnp.split(embedding + self.of_time(waves), ends, axis=-1)
        x = self.of_code(code) + first
        for norm, into, steer, out_of in zip(
            self.norms, self.into, steers, self.out_of, strict=False
        ):
            x = x + out_of(nn.silu(into(norm(x)) + steer))
        return self.velocity(self.norms[-1](x).astype(jnp.float32))


def flat(condition: Sequence[Array]) -> Array:
    """The condition as the prior's first layer takes it: its coarsest map and the one before.

    Of that, the means over 2 x 2 positions. The coarsest alone hardly tells what few known pixels
    do: the skin beside headgear that hides all but a rim is learned from it by heart.

    Args:
      condition: the maps of E2, the coarsest last, [B, h, w, C]; of one alone there is no other.

    Returns:
      [B, D], D numbers for the two maps; of what is like this already, itself.
    """
    maps = [condition[-1], *map(blocks.downsample, condition[-2:-1])]
    return jnp.concatenate([x.reshape(x.shape[0], -1) for x in maps], axis=-1)


def guided(velocity: Velocity, guide: Velocity, guidance: float) -> Velocity:
    """The velocity field `guidance` times as far from that of a worse prior, `guide`, as it is.

    At 1 it is `velocity` itself; above, codes go to where the better prior is surer than the worse.
    Where the two have little in common, it stays within half of the velocity's length from it: some
    codes would go astray.
    """

    def field(codes: Array, time: Array) -> Array:
        better = velocity(codes, time)
        correction = (guidance - 1) * (better - guide(codes, time))
        longest = _LONGEST_CORRECTION * _length(better)
        return better + correction * jnp.minimum(1.0, longest / (_length(correction) + 1e-6))

    return field


def _length(velocities: Array) -> Array:
    return jnp.linalg.norm(velocities, axis=-1, keepdims=True)


def transport(velocity: Velocity, codes: Array, *, back: bool) -> Array:
    """Carries codes along a velocity field, by Heun's method.

    Args:
      velocity: of codes [..., Z] at a time [] in [0, 1].
      codes: [..., Z]; standard normal, or with `back` those of the manifold.
      back: from time 1 to 0 instead of from 0 to 1.

    Returns:
      [..., Z], at the other end.
    """
    start, step = (1.0, -1.0 / _NUM_STEPS) if back else (0.0, 1.0 / _NUM_STEPS)

    def step_on(number: Array, codes: Array) -> Array:
        time = start + number * jnp.float32(step)
        first = velocity(codes, time)
        second = velocity(codes + step * first, time + step)
        return codes + step / 2 * (first + second)

    # A loop: unrolled, the velocity is compiled sixteen times.
    return jax.lax.fori_loop(0, _NUM_STEPS, step_on, codes)
