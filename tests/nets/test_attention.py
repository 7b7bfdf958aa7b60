"""Cross semantic attention against plain NumPy, and what it must never look at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from uctgan_jax.nets.attention import CrossSemanticAttention, known_positions, masked_attention

HEADS, CHANNELS = 2, 8


@pytest.fixture(scope="module")
def layer():
    """A layer whose gamma is not 0, its parameters and inputs."""
    module = CrossSemanticAttention(num_heads=HEADS)
    keys = jax.random.split(jax.random.key(0), 3)
    generated = jax.random.normal(keys[0], (2, 4, 4, CHANNELS))
    condition = jax.random.normal(keys[1], (2, 4, 4, 6))
    known = np.ones((2, 4, 4), bool)
    known[:, 1:3, 1:4] = False
    params = module.init(keys[2], generated, condition, known)["params"]
    params = {**params, "gamma": jnp.float32(0.7)}
    return module, params, generated, condition, known


def reference(params, generated, condition, known):
    """The formula of the docstring, position by position."""
    out = np.array(generated, np.float64)
    head = CHANNELS // HEADS
    for b in range(out.shape[0]):
        f_g = np.asarray(generated[b], np.float64).reshape(-1, CHANNELS)
        f_c = np.asarray(condition[b], np.float64).reshape(-1, condition.shape[-1])
        q = f_g @ params["query"]["kernel"] + params["query"]["bias"]
        k = f_c @ params["key"]["kernel"] + params["key"]["bias"]
        v = f_c @ params["value"]["kernel"] + params["value"]["bias"]
        keys = np.flatnonzero(known[b])
        for i in range(len(q)):
            attended = np.empty(CHANNELS)
            for h in range(HEADS):
                at = slice(h * head, (h + 1) * head)
                scores = np.array([q[i, at] @ k[j, at] for j in keys]) / np.sqrt(head)
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                attended[at] = sum(w * v[j, at] for w, j in zip(weights, keys, strict=True))
            y, x = divmod(i, out.shape[2])
            out[b, y, x] += float(params["gamma"]) * attended
    return out


def test_equals_numpy(layer):
    module, params, *inputs = layer
    result = module.apply({"params": params}, *inputs)
    np.testing.assert_allclose(result, reference(params, *inputs), rtol=1e-5, atol=1e-5)


def test_hole_positions_are_ignored(layer):
    module, params, generated, condition, known = layer
    changed = jnp.where(known[..., None], condition, 100.0)
    np.testing.assert_array_equal(
        module.apply({"params": params}, generated, changed, known),
        module.apply({"params": params}, generated, condition, known),
    )
    seen = jnp.where(known[..., None], 100.0, condition)
    assert not np.allclose(
        module.apply({"params": params}, generated, seen, known),
        module.apply({"params": params}, generated, condition, known),
    )


def test_all_hole_attends_everywhere_and_stays_finite(layer):
    module, params, generated, condition, known = layer
    nothing = np.zeros_like(known)

    def loss(condition):
        return module.apply({"params": params}, generated, condition, nothing).sum()

    everything = module.apply({"params": params}, generated, condition, ~nothing)
    result = module.apply({"params": params}, generated, condition, nothing)
    np.testing.assert_array_equal(result, everything)
    assert np.isfinite(result).all()
    assert np.isfinite(jax.grad(loss)(condition)).all()


def test_starts_as_the_identity(layer):
    module, _, generated, condition, known = layer
    params = module.init(jax.random.key(1), generated, condition, known)
    np.testing.assert_array_equal(module.apply(params, generated, condition, known), generated)


def test_bfloat16_softmax_is_exact_to_its_inputs():
    """300 equal scores: a softmax in bfloat16 would lose their sum."""
    query = jnp.zeros((1, 300, 1, 8), jnp.bfloat16)
    value = jnp.ones((1, 300, 1, 8), jnp.bfloat16)
    out = masked_attention(query, query, value, jnp.ones((1, 300), bool))
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), 1.0, rtol=4e-3)


def test_a_position_is_known_only_if_its_whole_patch_is():
    mask = np.zeros((1, 8, 8, 1), np.float32)
    mask[0, 3, 4] = 1  # one hole pixel, in the patch of rows 2-3 and columns 4-5
    expected = np.ones((1, 4, 4), bool)
    expected[0, 1, 2] = False
    np.testing.assert_array_equal(known_positions(mask, 4, 4), expected)
