"""The training step: what it learns from, what it leaves alone, what it must never do."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.conftest import LOSS_WEIGHTS, TINY_MODEL, assert_trees_equal
from uctgan_jax.losses import LossWeights
from uctgan_jax.nets import build_networks, sample_code
from uctgan_jax.nets.blocks import each_color
from uctgan_jax.optimizers import Optimizers
from uctgan_jax.preprocess import composite, normalize
from uctgan_jax.train_state import create_train_state
from uctgan_jax.train_step import (
    Keys,
    Trainee,
    example_keys,
    generator_loss,
    project_views,
    train_step,
)

OPTIMIZERS = Optimizers(
    generator=optax.adam(1e-3, 0.0, 0.99), discriminator=optax.adam(1e-3, 0.0, 0.99)
)


def make_trainee(networks, weights=LOSS_WEIGHTS, **changes):
    options = dict(networks=networks, optimizers=OPTIMIZERS, weights=weights, seed=0, ema_decay=0.9)
    return Trainee(**options | changes)


def make_step(networks, weights=LOSS_WEIGHTS, **changes):
    return jax.jit(functools.partial(train_step, make_trainee(networks, weights, **changes)))


@pytest.fixture(scope="module")
def step(networks):
    return make_step(networks)


@pytest.fixture(scope="module")
def state(networks):
    return create_state(networks)


def create_state(networks):
    create = functools.partial(create_train_state, networks=networks, optimizers=OPTIMIZERS)
    return jax.jit(create)(jax.random.key(0))


def changed(before, after):
    """Whether any array of a tree is another."""
    return any(
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    )


def test_reports_every_term_and_their_weighted_sum(step, state, patches):
    _, metrics = step(state, patches)
    terms = {f.name for f in dataclasses.fields(LOSS_WEIGHTS) if getattr(LOSS_WEIGHTS, f.name)}
    terms -= {"gradient_penalty"}
    total = sum(getattr(LOSS_WEIGHTS, name) * float(metrics[f"loss/{name}"]) for name in terms)
    np.testing.assert_allclose(metrics["loss/generator"], total, rtol=1e-5)
    assert set(metrics) == {f"loss/{name}" for name in terms} | {
        "loss/generator",
        "loss/discriminator",
        "loss/r1",
        "loss/r2",
        "gradient_norm",
        "nonfinite",
    }
    assert metrics["nonfinite"] == 0


def test_the_terms_are_those_of_the_paper(networks, state, patches):
    """Each loss against the paper's formula, from the networks' own outputs."""
    trainee, params = make_trainee(networks), state.generator_params
    keys = Keys(*example_keys(0, patches["index"], len(Keys._fields)))
    batch = {
        "image": normalize(patches["image"]),
        "instance": normalize(patches["instance"]),
        "mask": patches["mask"].astype(jnp.float32),
    }
    target, mask, hole = batch["image"], batch["mask"], each_color(batch["mask"])
    _, (terms, (_, seen)) = jax.jit(functools.partial(generator_loss, trainee=trainee))(
        params, discriminator_params=state.discriminator_params, batch=batch, keys=keys
    )

    def code_of(images, noise_keys):
        mean, log_variance = networks.project(params, images)
        noise = jax.vmap(lambda key: jax.random.normal(key, (networks.code_dim,)))(noise_keys)
        return mean, log_variance, sample_code(noise, mean, log_variance)

    mean_i, log_variance_i, z_i = code_of(batch["instance"], keys.instance_noise)
    mean_g, log_variance_g, z_g = code_of(target, keys.own_noise)
    condition = networks.encode(params, target, mask)
    completion = networks.generate(params, z_i, condition, mask)
    reconstruction = networks.generate(params, z_g, condition, mask)
    fake, own = (composite(x, target, hole) for x in (completion, reconstruction))
    np.testing.assert_allclose(seen.pictures, jnp.concatenate([fake, own]), atol=1e-5)

    known = (np.abs(completion - target) * (1 - hole)).sum((1, 2, 3)) / (1 - hole).sum((1, 2, 3))
    logits = functools.partial(networks.discriminate, state.discriminator_params, mask=mask)
    gaps = jnp.concatenate([logits(target) - logits(fake), logits(target) - logits(own)])
    kl = [
        0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)
        for mean, log_variance in ((mean_i, log_variance_i), (mean_g, log_variance_g))
    ]
    expected = {
        "reconstruction": np.abs(reconstruction - target).mean(),
        "condition_l1": known.mean(),
        "manifold_l1": np.abs(networks.project(params, fake)[0] - z_i).mean(),
        "kl": np.concatenate(kl).mean(),
        "adversarial": np.log1p(np.exp(gaps)).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, err_msg=name)


def test_moves_every_player_and_the_average(step, state, patches):
    moved, _ = step(state, patches)
    assert moved.step == 1
    for part in ("projection", "encoder", "generator"):
        assert changed(state.generator_params[part], moved.generator_params[part])
        assert changed(state.ema_params[part], moved.ema_params[part])
    assert changed(state.discriminator_params, moved.discriminator_params)


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


def test_the_average_ramps_up(step, state, patches):
    """At step 2 its decay is (1 + 2) / (10 + 2), on its way to the 0.9 of the config."""
    moved, _ = step(state.replace(step=jnp.int32(2)), patches)
    expected = jax.tree.map(
        lambda old, new: 0.25 * old + 0.75 * new, state.ema_params, moved.generator_params
    )
    assert_trees_equal(moved.ema_params, expected, rtol=1e-5, atol=1e-7)


def test_nonfinite_step_changes_nothing_and_is_counted(step, state, patches):
    state, _ = step(state, patches)
    params = state.discriminator_params
    broken = jax.tree.map(lambda x: x * jnp.nan, params)
    after, metrics = step(state.replace(discriminator_params=broken), patches)
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
    step = make_step(networks, instance_path=False)
    moved, metrics = step(state, patches)
    assert "loss/condition_l1" not in metrics and "loss/manifold_l1" not in metrics
    other, _ = step(state, {**patches, "instance": 255 - patches["instance"]})
    assert_trees_equal(moved, other)


@pytest.mark.parametrize("term", [f.name for f in dataclasses.fields(LOSS_WEIGHTS)])
def test_weight_zero_turns_a_term_off(networks, state, patches, term):
    weights = dataclasses.replace(LOSS_WEIGHTS, **{term: 0.0})
    step = functools.partial(train_step, make_trainee(networks, weights))
    everything = jax.eval_shape(
        functools.partial(train_step, make_trainee(networks)), state, patches
    )[1]
    without = {
        "perceptual": set(),
        "gradient_penalty": {"loss/r1", "loss/r2"},
        "adversarial": {"loss/adversarial", "loss/discriminator", "loss/r1", "loss/r2"},
    }.get(term, {f"loss/{term}"})
    _, metrics = jax.eval_shape(step, state, patches)
    assert set(everything) - set(metrics) == without
    if term == "adversarial":  # Without an opponent D stands still.
        moved, _ = jax.jit(step)(state, patches)
        assert_trees_equal(moved.discriminator_params, state.discriminator_params)


def test_manifold_term_leaves_e1_alone(networks, state, patches):
    """Alone, it must move G and E2 and not E1, which could satisfy it by collapsing."""
    only = LossWeights(**dict.fromkeys(vars(LOSS_WEIGHTS), 0.0) | {"manifold_l1": 1.0})
    moved, _ = make_step(networks, only)(state, patches)
    before, after = state.generator_params, moved.generator_params
    assert_trees_equal(after["projection"], before["projection"])
    for part in ("encoder", "generator"):
        assert changed(before[part], after[part])


@pytest.mark.slow
def test_the_perceptual_term_is_lpips_of_the_completed_reconstruction(networks, state, patches):
    from uctgan_jax.evaluation.metrics.lpips import lpips

    weights = dataclasses.replace(LOSS_WEIGHTS, perceptual=2.0)
    trainee = make_trainee(networks, weights, instance_path=False)
    keys = Keys(*example_keys(0, patches["index"], len(Keys._fields)))
    batch = {
        "image": normalize(patches["image"]),
        "instance": normalize(patches["instance"]),
        "mask": patches["mask"].astype(jnp.float32),
    }
    loss = functools.partial(
        generator_loss,
        trainee=trainee,
        discriminator_params=state.discriminator_params,
        batch=batch,
        keys=keys,
    )
    grads, (terms, (real, fake)) = jax.jit(jax.grad(loss, has_aux=True))(state.generator_params)
    # Pictures of 32 px are seen at 128.
    pictures = (
        networks.to_pictures(seen.pictures).repeat(4, axis=1).repeat(4, axis=2)
        for seen in (fake, real)
    )
    np.testing.assert_allclose(terms["perceptual"], lpips(*pictures).mean(), rtol=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.slow
def test_d_learns_from_features_what_it_is_not_shown_in_pixels(networks, patches):
    """With heads, D's parts all move, and so does G through the heads alone."""
    model = TINY_MODEL | {"discriminator_head_width": 4}
    networks = build_networks(image_size=32, **model)
    state = create_state(networks)
    weights = LossWeights(
        **dict.fromkeys(vars(LOSS_WEIGHTS), 0.0) | {"adversarial": 1.0, "gradient_penalty": 0.5}
    )
    blind = jax.tree.map(jnp.zeros_like, state.discriminator_params["Dense_0"])
    state = state.replace(discriminator_params=state.discriminator_params | {"Dense_0": blind})
    moved, metrics = make_step(networks, weights)(state, patches)
    for part in ("encoder", "generator"):
        assert changed(state.generator_params[part], moved.generator_params[part])
    heads = [name for name in state.discriminator_params if name.startswith("head_")]
    assert len(heads) == 4
    for name in heads:
        before, after = state.discriminator_params[name], moved.discriminator_params[name]
        assert changed(before, after)
    assert metrics["loss/r1"] > 0 and metrics["loss/r2"] > 0


def test_colour_jitter_changes_what_e1_sees_and_no_target(networks, state, patches):
    batch = {name: normalize(patches[name]) for name in ("image", "instance")}
    keys = Keys(*example_keys(0, patches["index"], len(Keys._fields)))
    plain, jittered = (
        project_views(
            state.generator_params, make_trainee(networks, colour_jitter=strength), batch, keys
        )[0]
        for strength in (0.0, 1.0)
    )
    assert np.abs(plain - jittered).min(axis=1).max() > 0


def test_noise_follows_the_example_not_its_place(networks, state, patches):
    """The loss of a batch does not depend on the order of its examples, augmented or not."""
    step = make_step(networks, colour_jitter=1.0, augment=True)
    order = np.random.default_rng(0).permutation(8)
    _, metrics = step(state, patches)
    _, shuffled = step(state, {name: rows[order] for name, rows in patches.items()})
    _, other = step(state, {**patches, "index": patches["index"] + 8})
    for name, value in metrics.items():
        np.testing.assert_allclose(shuffled[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert abs(float(other["loss/reconstruction"]) - float(metrics["loss/reconstruction"])) > 1e-6


@pytest.mark.slow
def test_bfloat16_stays_near_float32(networks, state, patches):
    """Parameters, norms, softmax and losses are float32 in both."""
    runs = {}
    for compute_dtype in ("float32", "bfloat16"):
        typed = build_networks(image_size=32, compute_dtype=compute_dtype, **TINY_MODEL)
        step, ours, logged = make_step(typed), state, []
        for number in range(10):
            ours, metrics = step(ours, {**patches, "index": patches["index"] + 8 * number})
            logged.append([float(metrics[f"loss/{name}"]) for name in ("generator", "kl")])
        runs[compute_dtype] = np.array(logged)
        assert {leaf.dtype for leaf in jax.tree.leaves(ours.generator_params)} == {
            jnp.dtype("float32")
        }
    assert 0 < np.abs(runs["bfloat16"] - runs["float32"]).max()
    np.testing.assert_allclose(runs["bfloat16"], runs["float32"], rtol=0.02, atol=0.02)


@pytest.mark.slow
def test_remat_changes_no_number_and_no_name(step, state, patches):
    typed = build_networks(image_size=32, remat=True, **TINY_MODEL)
    rematerialized = make_step(typed)
    assert "remat" in str(jax.make_jaxpr(rematerialized)(state, patches))
    expected_state, expected = step(state, patches)
    moved, metrics = rematerialized(state, patches)
    assert_trees_equal(metrics, expected, rtol=1e-4, atol=1e-6)
    assert jax.tree.structure(moved) == jax.tree.structure(expected_state)


def test_a_step_compiles_once(networks, state, patches, compilations):
    step = make_step(networks, instance_path=False)
    step(state, patches)
    del compilations[:]
    step(step(state, {**patches, "index": patches["index"] + 8})[0], patches)
    assert not compilations
