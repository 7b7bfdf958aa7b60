"""What the benchmarks measure: the programs of a config, and batches of the shapes they take."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun

from uctgan_jax.inpainting.sampler import complete_codes
from uctgan_jax.nets import Networks
from uctgan_jax.nets.blocks import space_to_depth
from uctgan_jax.prior.normal import NormalPrior
from uctgan_jax.train_state import TrainState, create_train_state
from uctgan_jax.train_step import train_step
from uctgan_jax.training import make_trainee, reconstruction_stage

STAGES = ("reconstruction", "joint")


def train_program(
    config: ml_collections.ConfigDict, axis_name: str | None = None, stage: str = "joint"
) -> tuple[Callable[[], TrainState], Callable]:
    """Makers of the state and of the next state in a stage of training, neither compiled.

    Returns:
      `create() -> state` and `step(state, batch) -> (state, metrics)`, see `train_step`.
    """
    trainee = make_trainee(config, axis_name)
    if stage == "reconstruction":
        trainee = reconstruction_stage(trainee)

    def create() -> TrainState:
        key = jax.random.key(config.seed)
        return create_train_state(key, trainee.networks, trainee.optimizers)

    return create, functools.partial(train_step, trainee)


def batch_shapes(
    config: ml_collections.ConfigDict, batch_size: int
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a batch that a training step takes."""
    one = random_batch(1, config.image_size, config.model.patch_size)
    return {
        name: jax.ShapeDtypeStruct((batch_size, *x.shape[1:]), x.dtype) for name, x in one.items()
    }


def random_batch(batch_size: int, image_size: int, patch_size: int = 1) -> dict[str, np.ndarray]:
    """A training batch of noise with the centre hole: pictures, or patches as the step takes."""
    rng = np.random.default_rng(0)
    shape = (batch_size, image_size, image_size)
    mask = np.zeros((*shape, 1), np.uint8)
    hole = slice(image_size // 4, image_size * 3 // 4)
    mask[:, hole, hole] = 1
    pictures = {
        "image": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "instance": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "mask": mask,
    }
    patches = {name: space_to_depth(x, patch_size) for name, x in pictures.items()}
    return {**patches, "index": np.arange(batch_size, dtype=np.uint32)}


def completion_flop(networks: Networks, params: Any, num_samples: int = 1) -> float:
    """Operations of `num_samples` completions of one picture: E2 once, G once for each."""
    batch = random_batch(1, networks.image_size)
    codes = jax.ShapeDtypeStruct((1, num_samples, networks.code_dim), jnp.float32)

    def complete(*args: jax.Array) -> jax.Array:
        return complete_codes(networks, NormalPrior(), *args)

    return count_flop(complete, params, batch["image"], batch["mask"], codes)


def train_flop(config: ml_collections.ConfigDict, batch_size: int, stage: str = "joint") -> float:
    """Operations of a step of a stage on so many examples, see `count_flop`."""
    create, step = train_program(config, stage=stage)
    return count_flop(step, jax.eval_shape(create), batch_shapes(config, batch_size))


def count_flop(function: Callable, *args: Any) -> float:
    """Floating-point operations of a function, as XLA counts them before it optimises.

    XLA counts one round of a loop: here all count.
    """
    shapes = jax.eval_shape(lambda *args: args, *args)
    # For the CPU, wherever the program runs: it is the same, and GPUs and TPUs do not count.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return _count(jax.make_jaxpr(function)(*shapes))


def _count(jaxpr: ClosedJaxpr) -> float:
    loops = ((eqn.params["length"], eqn.params["jaxpr"]) for eqn in _loops(jaxpr))
    more = sum(length * _count(body) - _count_once(body) for length, body in loops)
    return _count_once(jaxpr) + more


def _count_once(jaxpr: ClosedJaxpr) -> float:
    return jax.jit(jaxpr_as_fun(jaxpr)).lower(*jaxpr.in_avals).cost_analysis()["flops"]


def _loops(jaxpr: Jaxpr | ClosedJaxpr) -> Iterator[JaxprEqn]:
    """The loops of a program, but not those within them."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "scan":
            yield eqn
        else:
            for value in jax.tree.leaves(list(eqn.params.values())):
                if isinstance(value, Jaxpr | ClosedJaxpr):
                    yield from _loops(value)
