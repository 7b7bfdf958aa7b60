"""What the benchmarks run and count."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import programs
from tests.conftest import run_config


def test_every_round_of_a_loop_counts():
    matrix = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    once = programs.count_flop(lambda x: x @ x, matrix)

    def inner(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: y @ x, x)

    def outer(x):
        return jax.lax.fori_loop(0, 5, lambda _, y: inner(y), x)

    # Besides products there are the loops' own counters.
    assert programs.count_flop(inner, matrix) == pytest.approx(3 * once, rel=1e-3)
    assert programs.count_flop(outer, matrix) == pytest.approx(15 * once, rel=1e-3)


def test_steps_are_those_of_training():
    config = run_config("unused")
    config.model.attention_resolution = 0
    for part in ("encoder", "generator", "discriminator"):
        config.model[f"{part}_widths"] = (8,)
    create, step = programs.train_program(config, stage="reconstruction")
    before, batch = jax.eval_shape(create), programs.batch_shapes(config, 4)
    assert batch["image"].shape == (4, 8, 8, 48) and batch["index"].shape == (4,)
    after, metrics = jax.eval_shape(step, before, batch)
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, before)
    assert "loss/generator" in metrics and "loss/discriminator" not in metrics
    alone, joint = (programs.train_flop(config, 4, stage) for stage in programs.STAGES)
    assert alone < 0.6 * joint


def test_more_completions_of_a_picture_share_the_condition(networks):
    params = jax.eval_shape(networks.init_generator, jax.random.key(0))
    one, two, three = (programs.completion_flop(networks, params, count) for count in (1, 2, 3))
    assert one < two < 2 * one
    assert three - two == pytest.approx(two - one, rel=1e-3)
