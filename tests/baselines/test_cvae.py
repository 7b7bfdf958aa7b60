"""The conditional VAE: UCTGAN's networks with two of its losses."""

import jax

from benchmarks import programs
from uctgan_jax.configs import cvae, paper


def test_learns_from_reconstruction_and_kl_alone_as_much_as_uctgan_does():
    config, expected = cvae.get_config(), paper.get_config()
    create, step = programs.train_program(config)
    _, metrics = jax.eval_shape(step, jax.eval_shape(create), programs.batch_shapes(config, 2))
    terms = {name.removeprefix("loss/") for name in metrics if name.startswith("loss/")}
    assert terms == {"reconstruction", "kl", "generator"}
    for name in ("reconstruction", "kl"):
        assert config.loss[name] == expected.loss[name] > 0
    same = ("model", "data", "mask", "optimizer", "batch_size", "num_train_steps", "image_size")
    assert all(config[name] == expected[name] for name in same)
