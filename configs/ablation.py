"""The paper's ablations: `configs/paper.py` without one part.

    python train.py --config=configs/ablation.py:no_attention --workdir=runs/no_attention \\
        --config.data.source=folder:PATH

The part is `no_attention`, `no_manifold`, `no_instance`, `no_reconstruction` or `no_kl`. Another
base goes behind a comma: `--config=configs/ablation.py:no_kl,faces64`.
"""

import importlib

import ml_collections


def get_config(ablation: str) -> ml_collections.ConfigDict:
    name, _, base = ablation.partition(",")
    config = importlib.import_module(f"uctgan_jax.configs.{base or 'paper'}").get_config()
    if name == "no_attention":
        config.model.attention_resolution = 0
    elif name == "no_manifold":
        config.loss.manifold_l1 = 0.0
    elif name == "no_instance":
        config.instance_path = False
    elif name == "no_reconstruction":
        config.reconstruction_steps = 0
        for term in (
            "reconstruction",
            "reconstruction_hole",
            "reconstruction_square",
            "perceptual",
        ):
            config.loss[term] = 0.0
    elif name == "no_kl":
        config.loss.kl = 0.0
    else:
        raise ValueError(
            f"ablation ({name!r}) must be no_attention, no_manifold, no_instance,"
            " no_reconstruction or no_kl"
        )
    return config
