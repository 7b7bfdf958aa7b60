"""Parameters and operations of the presets, as XLA counts them: one JSON object a preset.

    python -m benchmarks.network_cost

`train_gflop` is one training step and `completion_gflop` one completion (E2 and G), both for one
picture. Operations are counted on the program before optimisation: no hardware is involved.
"""

import json

import jax
import jax.numpy as jnp

from configs import default
from uctgan_jax.inpainting import complete_codes
from uctgan_jax.nets import Networks, build_networks
from uctgan_jax.train_state import create_train_state
from uctgan_jax.train_step import LossWeights, make_train_step
from uctgan_jax.training import make_optimizers


def network_cost(image_size: int) -> dict[str, float]:
    """The figures of one preset of `configs/default.py`."""
    config = default.get_config(image_size)
    networks = build_networks(image_size=image_size, **config.model)
    optimizers = make_optimizers(**config.optimizer)
    state = jax.eval_shape(lambda: create_train_state(jax.random.key(0), networks, optimizers))
    step = make_train_step(
        networks=networks,
        optimizers=optimizers,
        weights=LossWeights(**config.loss),
        seed=0,
        color_jitter=config.color_jitter,
        ema_decay=config.ema_decay,
    )
    params = state.generator_params
    return {
        "image_size": image_size,
        **{f"{name}_params": _count(params[name]) for name in params},
        "discriminator_params": _count(state.discriminator_params),
        "train_gflop": _gflop(step, state, _batch(image_size)),
        "completion_gflop": _completion_gflop(networks, params),
    }


def _completion_gflop(networks: Networks, params: dict) -> float:
    batch = _batch(networks.image_size)
    codes = jax.ShapeDtypeStruct((1, 1, networks.code_dim), jnp.float32)

    def complete(*args: jax.Array) -> jax.Array:
        return complete_codes(networks, *args)

    return _gflop(complete, params, batch["image"], batch["mask"], codes)


def _batch(image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    def pictures(channels: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, image_size, image_size, channels), jnp.uint8)

    index = jax.ShapeDtypeStruct((1,), jnp.uint32)
    return {"image": pictures(3), "instance": pictures(3), "mask": pictures(1), "index": index}


def _gflop(function, *args) -> float:
    return round(jax.jit(function).lower(*args).cost_analysis()["flops"] / 1e9, 3)


def _count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    for size in default.MODELS:
        print(json.dumps(network_cost(size)), flush=True)
