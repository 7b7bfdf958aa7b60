"""Parameters and operations of the presets, as XLA counts them: one JSON object a preset.

    python -m benchmarks.network_cost

`train_gflop` is what each picture adds to a training step, `step_gflop` what a step costs without
pictures (the optimisers), and `completion_gflop` one completion (E2 and G). Operations are counted
on the program before optimisation: no hardware is involved.
"""

import json

import jax

from benchmarks import programs
from uctgan_jax import training
from uctgan_jax.configs import default


def network_cost(image_size: int) -> dict[str, float]:
    """The figures of one preset of `configs/default.py`."""
    config = default.get_config(image_size)
    state = jax.eval_shape(programs.train_program(config)[0])
    params = state.ema_params
    one, two = (programs.train_flop(config, size) for size in (1, 2))
    completion_flop = programs.completion_flop(training.make_trainee(config).networks, params)
    return {
        "image_size": image_size,
        **{f"{name}_params": _count(params[name]) for name in params},
        "discriminator_params": _count(state.discriminator_params),
        "train_gflop": round((two - one) / 1e9, 3),
        "step_gflop": round((2 * one - two) / 1e9, 3),
        "completion_gflop": round(completion_flop / 1e9, 3),
    }


def _count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


if __name__ == "__main__":
    for size in default.MODELS:
        print(json.dumps(network_cost(size)), flush=True)
