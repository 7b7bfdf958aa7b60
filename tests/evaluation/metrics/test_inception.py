"""Parity with pytorch-fid 0.3.0, by figures it gave for weights that a formula makes."""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uctgan_jax.evaluation.metrics.inception import InceptionV3, inception, params_from_state_dict

EXPECTED = json.loads((Path(__file__).parent / "data" / "inception_expected.json").read_text())


def formula(name, shape):
    """A tensor that depends on its name and shape alone."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("conv.weight"):
        return rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith("bn.weight"):
        return rng.uniform(0.8, 1.2, shape)
    return rng.normal(size=shape) * (0.03 if name == "fc.weight" else 0.1)


@pytest.fixture(scope="module")
def state():
    shapes = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, 299, 299, 3)))
    state = {"fc.weight": formula("fc.weight", (1008, 2048)).astype(np.float32)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["params"]):
        if path[-1].key == "kernel" and path[0].key != "fc":
            module = ".".join(key.key for key in path[:-2])
            height, width, inputs, outputs = leaf.shape
            sizes = {"conv.weight": (outputs, inputs, height, width)}
            sizes |= {f"bn.{n}": (outputs,) for n in ("weight", "bias")}
            sizes |= {f"bn.{n}": (outputs,) for n in ("running_mean", "running_var")}
            for name, shape in sizes.items():
                name = f"{module}.{name}"
                state[name] = formula(name, shape).astype(np.float32)
    return state


@pytest.fixture(scope="module")
def params(state):
    return params_from_state_dict(state)


def test_features_and_logits_equal_pytorch_fid(params):
    pictures = np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    features, logits = inception(params, pictures * 2 - 1)
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    np.testing.assert_allclose(features.mean(1), EXPECTED["feature_means"], rtol=1e-5)
    np.testing.assert_allclose(features[:, ::128], EXPECTED["features"], atol=2e-5)
    np.testing.assert_allclose(logits[:, ::126], EXPECTED["logits"], atol=1e-4)


def test_the_network_has_its_known_size(params):
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 23_832_736


def test_other_weights_are_refused(state):
    without = {k: v for k, v in state.items() if k != "Mixed_6c.branch_pool.bn.bias"}
    with pytest.raises(ValueError, match="lacks 'Mixed_6c.branch_pool.bn.bias'"):
        params_from_state_dict(without)
    wrong = state | {"fc.weight": np.zeros((1000, 2048), np.float32)}
    with pytest.raises(ValueError, match=r"must be \(2048, 1008\)"):
        params_from_state_dict(wrong)


def test_pictures_out_of_range_are_refused(params):
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        inception(params, np.full((1, 64, 64, 3), 255, np.float32))
