"""The training step: what it learns from, what it leaves alone, what it must never do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import LOSS_WEIGHTS, TINY_MODEL, assert_trees_equal
from uctgan_jax.nets import build_networks
from uctgan_jax.preprocess import composite, normalize
from uctgan_jax.prior.flow import CONDITION_LAYER, flat
from uctgan_jax.prior.whitening import whitened
from uctgan_jax.train_state import Optimizers, create_train_state
from uctgan_jax.train_step import LossWeights, make_encoder, make_prior_step, make_train_step

ADAM = optax.adam(1e-3)
OPTIMIZERS = Optimizers(
    generator=optax.adam(1e-3, 0.0, 0.99),
    prior=whitened(ADAM, layer=CONDITION_LAYER),
    discriminator=ADAM,
)


def make_step(networks, weights=LOSS_WEIGHTS, **changes):
    options = dict(seed=0, ema_decay=0.9, instance_path=True) | changes
    return jax.jit(
        make_train_step(networks=networks, optimizers=OPTIMIZERS, weights=weights, **options)
    )


@pytest.fixture(scope="module")
def step(networks):
    return make_step(networks)


@pytest.fixture(scope="module")
def state(networks):
    create = functools.partial(create_train_state, networks=networks, optimizers=OPTIMIZERS)
    return jax.jit(create)(jax.random.key(0))


def test_reports_every_term_and_their_weighted_sum(step, state, patches):
    _, metrics = step(state, patches)
    terms = {
        field.name: float(metrics[f"loss/{field.name}"])
        for field in dataclasses.fields(LOSS_WEIGHTS)
    }
    total = sum(
        getattr(LOSS_WEIGHTS, name) * value for name, value in terms.items() if name != "prior"
    )
    np.testing.assert_allclose(metrics["loss/generator"], total, rtol=1e-5)
    assert set(metrics) == {f"loss/{name}" for name in terms} | {
        "loss/generator",
        "loss/discriminator",
        "gradient_norm",
        "nonfinite",
    }
    assert metrics["nonfinite"] == 0


def test_moves_every_player_their_average_and_the_spectral_norm(step, state, patches):
    moved, _ = step(state, patches)
    assert moved.step == 1
    assert moved.prior_opt_state.count == 0  # measures nothing while E2 moves
    for name in (
        "generator_params",
        "prior_params",
        "discriminator_params",
        "ema_params",
        "spectral_norm",
    ):
        for part in ("projection", "encoder", "prior", "guide", "generator"):
            before, after = getattr(state, name), getattr(moved, name)
            if part in before:
                before, after = before[part], after[part]
            changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, after)
            assert any(jax.tree.leaves(changed)), (name, part)


def test_learns_to_reconstruct(step, state, patches):
    colors = patches["image"][:, :1, :1, :3]
    height, width, numbers = patches["image"].shape[1:]
    plain = np.tile(colors, (1, height, width, numbers // 3))
    patches = {**patches, "image": plain, "instance": plain[::-1]}
    first = None
    for _ in range(60):
        state, metrics = step(state, patches)
        first = first or float(metrics["loss/reconstruction"])
    assert float(metrics["loss/reconstruction"]) < 0.8 * first


def test_the_prior_learns_and_moves_nothing_else(networks, state, patches):
    encoded = jax.jit(make_encoder(networks))(state.ema_params, patches)
    encoded["index"] = patches["index"]
    step = jax.jit(make_prior_step(networks=networks, optimizers=OPTIMIZERS, seed=0, ema_decay=0.9))
    before = jax.device_get(state)
    state, metrics = step(state, encoded)
    first = float(metrics["loss/prior"])
    for _ in range(30):
        state, metrics = step(state, encoded)
    assert float(metrics["loss/prior"]) < 0.95 * first
    assert set(metrics) == {"loss/prior", "gradient_norm", "nonfinite"}
    after = jax.device_get(state)
    for part in ("projection", "encoder", "guide", "generator"):
        assert_trees_equal(after.ema_params[part], before.ema_params[part])
    moved = ("step", "prior_params", "prior_opt_state", "ema_params")
    kept = {name: getattr(before, name) for name in moved}
    assert_trees_equal(after.replace(**kept), before)


def test_what_is_encoded_is_what_the_averaged_networks_see(networks, state, patches):
    other = {**patches, "instance": 255 - patches["instance"]}
    encode = jax.jit(make_encoder(networks))
    encoded = encode(state.ema_params, patches)
    assert_trees_equal(encode(state.ema_params, other), encoded)
    image, mask = normalize(patches["image"]), patches["mask"].astype(jnp.float32)
    mean, log_variance = networks.projection.apply(
        {"params": state.ema_params["projection"]}, image
    )
    maps = networks.encoder.apply({"params": state.ema_params["encoder"]}, image, mask)
    expected = {"mean": mean, "log_variance": log_variance, "condition": flat(maps)}
    assert encoded["condition"].dtype == jnp.float16
    assert_trees_equal(encoded, expected, rtol=2e-3, atol=2e-3)


def test_averages_ramp_up(networks, state, patches):
    """From a decay of (1 + 0) / (10 + 0) to the 0.9 of the config, each from its own first step."""
    step = make_step(networks, start_step=2)
    moved, _ = step(state.replace(step=jnp.int32(2)), patches)
    newest = {**moved.generator_params, "prior": moved.prior_params, "guide": moved.prior_params}
    for name, params in newest.items():
        decay = 1 / 10 if name in ("prior", "guide") else 3 / 12
        expected = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * new,
            state.ema_params[name],
            params,
        )
        assert_trees_equal(moved.ema_params[name], expected, rtol=1e-5, atol=1e-7)


def test_nonfinite_step_changes_nothing_and_is_counted(step, state, patches):
    state, _ = step(state, patches)
    params = state.discriminator_params
    broken = jax.tree.map(lambda x: x * jnp.nan, params)
    bad = state.replace(discriminator_params=broken)
    after, metrics = step(bad, patches)
    assert metrics["nonfinite"] == 1
    assert after.step == 2 and after.nonfinite_steps == 1
    untouched = after.replace(
        step=state.step, nonfinite_steps=state.nonfinite_steps, discriminator_params=params
    )
    assert_trees_equal(untouched, state)
    again, _ = step(after, patches)
    assert again.nonfinite_steps == 2
    healed, _ = step(again.replace(discriminator_params=params), patches)
    assert healed.nonfinite_steps == 0


def test_without_the_instance_path_instances_do_not_matter(networks, state, patches):
    weights = dataclasses.replace(LOSS_WEIGHTS, kl=0.0)  # the KL term is on both codes
    step = make_step(networks, weights, instance_path=False)
    moved, metrics = step(state, patches)
    assert "loss/known" not in metrics and "loss/manifold" not in metrics
    other, _ = step(state, {**patches, "instance": 255 - patches["instance"]})
    assert_trees_equal(moved, other)


def test_the_prior_carries_the_codes_of_instances_alone(step, state, patches):
    """With no way to go, as at the start, they stay; a prior that moves codes moves these."""
    _, metrics = step(state, patches)
    leaves, structure = jax.tree.flatten(state.ema_params["prior"])
    keys = jax.random.split(jax.random.key(5), len(leaves))
    prior = structure.unflatten(
        [jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)]
    )
    _, carried = step(state.replace(ema_params={**state.ema_params, "prior": prior}), patches)
    assert abs(float(carried["loss/manifold"]) - float(metrics["loss/manifold"])) > 1e-3
    for name in ("reconstruction", "reconstruction_hole", "reconstruction_square", "kl", "prior"):
        assert carried[f"loss/{name}"] == metrics[f"loss/{name}"]


@pytest.mark.parametrize("term", [field.name for field in dataclasses.fields(LOSS_WEIGHTS)])
def test_weight_zero_turns_a_term_off(networks, state, patches, term):
    step = make_train_step(
        networks=networks,
        optimizers=OPTIMIZERS,
        weights=dataclasses.replace(LOSS_WEIGHTS, **{term: 0.0}),
        seed=0,
        ema_decay=0.9,
        instance_path=True,
    )
    _, metrics = jax.eval_shape(step, state, patches)
    assert f"loss/{term}" not in metrics
    assert len([name for name in metrics if name.startswith("loss/")]) == (
        8 if term == "adversarial" else 9
    )
    if term == "adversarial":  # Without an opponent D stands still.
        moved, _ = jax.jit(step)(state, patches)
        assert_trees_equal(moved.discriminator_params, state.discriminator_params)
        assert_trees_equal(moved.spectral_norm, state.spectral_norm)


def test_manifold_term_leaves_e1_alone(networks, state, patches):
    """Alone, it must move G and E2 and not E1, which could satisfy it by collapsing."""
    only = LossWeights(**dict.fromkeys(vars(LOSS_WEIGHTS), 0.0) | {"manifold": 1.0})
    moved, _ = make_step(networks, only)(state, patches)
    before, after = state.generator_params, moved.generator_params
    assert_trees_equal(after["projection"], before["projection"])
    for part in ("encoder", "generator"):
        changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), before[part], after[part])
        assert any(jax.tree.leaves(changed))


def test_noise_follows_the_example_not_its_place(step, state, patches):
    """The loss of a batch does not depend on the order of its examples."""
    order = np.random.default_rng(0).permutation(8)
    _, metrics = step(state, patches)
    _, shuffled = step(state, {name: rows[order] for name, rows in patches.items()})
    _, other = step(state, {**patches, "index": patches["index"] + 8})
    for name, value in metrics.items():
        np.testing.assert_allclose(shuffled[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert abs(float(other["loss/reconstruction"]) - float(metrics["loss/reconstruction"])) > 1e-6


def test_bfloat16_stays_near_float32_over_20_steps(networks, state, patches):
    """Parameters, norms, softmax and losses are float32 in both."""
    runs = {}
    for compute_dtype in ("float32", "bfloat16"):
        typed = build_networks(image_size=32, compute_dtype=compute_dtype, **TINY_MODEL)
        step, ours, losses = make_step(typed), state, []
        for number in range(20):
            ours, metrics = step(ours, {**patches, "index": patches["index"] + 8 * number})
            losses.append([float(metrics[f"loss/{name}"]) for name in ("generator", "kl")])
        runs[compute_dtype] = np.array(losses)
        assert {leaf.dtype for leaf in jax.tree.leaves(ours.generator_params)} == {
            jnp.dtype("float32")
        }
    difference = np.abs(runs["bfloat16"] - runs["float32"])
    assert 0 < difference.max()
    np.testing.assert_allclose(runs["bfloat16"], runs["float32"], rtol=0.02, atol=0.02)


def test_remat_changes_no_number_and_no_name(step, networks, state, patches):
    typed = build_networks(image_size=32, remat=True, **TINY_MODEL)
    rematerialized = make_step(typed)
    assert "remat" in str(jax.make_jaxpr(rematerialized)(state, patches))
    expected_state, expected = step(state, patches)
    moved, metrics = rematerialized(state, patches)
    assert_trees_equal(metrics, expected, rtol=1e-4, atol=1e-6)
    assert jax.tree.structure(moved) == jax.tree.structure(expected_state)
    assert_trees_equal(moved.spectral_norm, expected_state.spectral_norm, rtol=1e-5, atol=1e-6)


def test_normalize_spans_minus_one_to_one():
    np.testing.assert_allclose(normalize(jnp.array([0, 255], jnp.uint8)), [-1.0, 1.0], atol=1e-6)


def test_composite_takes_the_hole_from_the_output():
    output, target = jnp.full((1, 2, 2, 3), 0.5), jnp.zeros((1, 2, 2, 3))
    mask = jnp.array([[[[1.0], [0.0]], [[0.0], [1.0]]]])
    np.testing.assert_array_equal(composite(output, target, mask)[0, ..., 0], [[0.5, 0], [0, 0.5]])
