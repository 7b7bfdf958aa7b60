"""What the benchmarks count."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.programs import count_flop


def test_every_round_of_a_loop_counts():
    matrix = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    once = count_flop(lambda x: x @ x, matrix)

    def inner(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: y @ x, x)

    def outer(x):
        return jax.lax.fori_loop(0, 5, lambda _, y: inner(y), x)

    # Besides products there are the loops' own counters.
    assert count_flop(inner, matrix) == pytest.approx(3 * once, rel=1e-3)
    assert count_flop(outer, matrix) == pytest.approx(15 * once, rel=1e-3)
