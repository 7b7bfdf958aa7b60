"""The paper's ablations: `--config=configs/ablation.py:no_attention` (avatars32 without it).

`no_attention`, `no_manifold`, `no_instance`, `no_reconstruction` or `no_kl`; a base other than
`avatars32` goes behind a comma: `--config=configs/ablation.py:no_kl,tiny`. It must begin from
scratch: a trained model has learned with all parts.
"""

import importlib

import ml_collections


def get_config(ablation: str) -> ml_collections.ConfigDict:
    name, _, base = ablation.partition(",")
    config = importlib.import_module(f"configs.{base or 'avatars32'}").get_config()
    if config.init_from:
        raise ValueError(f"base ({base!r}) must begin from scratch, not with a trained model")
    if name == "no_attention":
        config.model.attention_resolution = 0
    elif name == "no_manifold":
        config.loss.manifold = 0.0
    elif name == "no_instance":
        config.instance_path = False
    elif name == "no_reconstruction":
        config.reconstruction_steps = 0
        config.loss.reconstruction = 0.0
        config.loss.reconstruction_hole = 0.0
        config.loss.reconstruction_square = 0.0
    elif name == "no_kl":
        config.loss.kl = 0.0
    else:
        raise ValueError(
            f"ablation ({name!r}) must be no_attention, no_manifold, no_instance,"
            " no_reconstruction or no_kl"
        )
    return config
