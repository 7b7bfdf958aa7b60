"""The four networks at every preset: shapes, types, counts, gradients, rules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from tests.conftest import TINY_MODEL
from uctgan_jax.nets import build_networks, sample_code

# E1, E2, G and D. A change of architecture must be meant: it makes every checkpoint unreadable.
PARAMETER_COUNTS = {
    32: (440_224, 449_264, 997_949, 449_489),
    64: (866_528, 904_768, 3_005_389, 1_556_353),
    128: (2_953_792, 2_441_024, 6_482_225, 3_649_665),
    256: (6_212_096, 5_314_816, 8_156_865, 5_313_025),
}


def preset(image_size, **changes):
    model = default.get_config(image_size).model.to_dict() | changes
    return build_networks(image_size=image_size, **model)


def run_all(networks, params, stats, image, mask):
    """Every network once, as in training; pictures go in and come out."""
    image, mask = networks.to_patches(image), networks.to_patches(mask)
    mean, log_variance = networks.projection.apply({"params": params["projection"]}, image)
    condition = networks.encoder.apply({"params": params["encoder"]}, image, mask)
    output = networks.generator.apply({"params": params["generator"]}, mean, condition, mask)
    variables = {"params": params["discriminator"], "spectral_norm": stats}
    logits = networks.discriminator.apply(variables, output, mask)
    return mean, log_variance, condition, networks.to_pictures(output), logits


def all_params(networks, key):
    generator = networks.init_generator(key)
    discriminator, stats = networks.init_discriminator(key)
    return generator | {"discriminator": discriminator}, stats


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("image_size", list(PARAMETER_COUNTS))
def test_shapes_types_and_counts(image_size, compute_dtype):
    networks = preset(image_size, compute_dtype=compute_dtype)
    model = default.get_config(image_size).model
    params, stats = jax.eval_shape(functools.partial(all_params, networks), jax.random.key(0))
    image = jax.ShapeDtypeStruct((2, image_size, image_size, 3), jnp.float32)
    mask = jax.ShapeDtypeStruct((2, image_size, image_size, 1), jnp.float32)
    mean, log_variance, condition, output, logits = jax.eval_shape(
        functools.partial(run_all, networks), params, stats, image, mask
    )

    assert mean.shape == log_variance.shape == (2, model.code_dim)
    side = image_size // model.patch_size
    assert [c.shape for c in condition] == [
        (2, side >> level, side >> level, width) for level, width in enumerate(model.encoder_widths)
    ]
    assert {c.dtype for c in condition} == {jnp.dtype(compute_dtype)}
    assert output.shape == image.shape
    coarsest = side >> (len(model.discriminator_widths) - 1)
    assert logits.shape == (2, coarsest, coarsest)
    for outside in (mean, log_variance, output, logits, *jax.tree.leaves((params, stats))):
        assert outside.dtype == jnp.float32
    counts = tuple(
        sum(leaf.size for leaf in jax.tree.leaves(params[name]))
        for name in ("projection", "encoder", "generator", "discriminator")
    )
    assert counts == PARAMETER_COUNTS[image_size]


def test_512_px_runs():
    networks = build_networks(image_size=512, **default.MODELS[256])
    params = jax.eval_shape(networks.init_generator, jax.random.key(0))
    image, mask = networks._example()
    condition = jax.eval_shape(networks.encoder.apply, {"params": params["encoder"]}, image, mask)
    code = jnp.zeros((1, networks.code_dim))
    output = jax.eval_shape(
        networks.generator.apply, {"params": params["generator"]}, code, condition, mask
    )
    assert jax.eval_shape(networks.to_pictures, output).shape == (1, 512, 512, 3)


@pytest.fixture(scope="module")
def trained_like(networks):
    """Parameters moved off their special initial values, such as gamma = 0."""
    params, stats = jax.jit(functools.partial(all_params, networks))(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, moved), stats


def test_finite_gradients_reach_every_parameter(networks, trained_like, batch):
    params, stats = trained_like
    image = jnp.asarray(batch["image"] / 127.5 - 1, jnp.float32)

    @jax.jit
    @jax.grad
    def gradients(params):
        mean, log_variance, condition, output, logits = run_all(
            networks, params, stats, image, batch["mask"].astype(np.float32)
        )
        code = sample_code(jnp.ones_like(mean), mean, log_variance)
        velocities = [
            networks.velocity({"prior": params[name]}, condition)(code[:, None], jnp.float32(0.3))
            for name in ("prior", "guide")
        ]
        return sum((x**2).mean() for x in (output, logits, code, *velocities))

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(params)):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), name
        # The bias of attention's keys shifts all scores of a query alike: softmax ignores it.
        if "['key']['bias']" not in name:
            assert np.abs(gradient).max() > 0, name


def test_code_and_condition_both_matter(networks, trained_like, batch):
    params, _ = trained_like
    image = jnp.asarray(batch["image"] / 127.5 - 1, jnp.float32)
    mask = batch["mask"].astype(np.float32)

    @jax.jit
    def generate(code, image):
        image, patches = networks.to_patches(image), networks.to_patches(mask)
        condition = networks.encoder.apply({"params": params["encoder"]}, image, patches)
        return networks.generator.apply({"params": params["generator"]}, code, condition, patches)

    codes = jax.random.normal(jax.random.key(2), (2, 8, networks.code_dim))
    first = generate(codes[0], image)
    assert np.abs(generate(codes[1], image) - first).mean() > 0.05
    assert np.abs(generate(codes[0], -image) - first).mean() > 0.05
    assert np.abs(first).max() <= 1
    # What lies under the hole is never seen.
    hidden = jnp.where(mask > 0, 0.3, image)
    np.testing.assert_array_equal(generate(codes[0], hidden), first)


@pytest.mark.parametrize(
    ("image_size", "changes", "message"),
    [
        (48, {}, r"image_size \(48\) must be a power of two from 32 to 512"),
        (1024, {}, r"image_size \(1024\)"),
        (32, {"patch_size": 3}, r"patch_size \(3\) must be a power of two"),
        (32, {"code_dim": 0}, r"code_dim \(0\) must be 1 or more"),
        (32, {"generator_blocks": 0}, r"generator_blocks \(0\) must be 1 or more"),
        (32, {"encoder_widths": (8, 0)}, r"encoder_widths \(\(8, 0\)\) must each be 1 or more"),
        (32, {"compute_dtype": "float16"}, r"compute_dtype \('float16'\)"),
        (32, {"projection_widths": (8,) * 4}, r"projection_widths .* 2 x 2"),
        (32, {"discriminator_widths": ()}, r"discriminator_widths \(\(\)\)"),
        (32, {"generator_widths": (8, 12)}, r"generator_widths .* multiples of 8"),
        (32, {"generator_widths": (8,)}, "same number of levels"),
        (32, {"attention_resolution": 5}, r"attention_resolution \(5\)"),
        (32, {"attention_heads": 3}, r"attention_heads \(3\) must divide"),
    ],
)
def test_impossible_sizes_are_refused(image_size, changes, message):
    with pytest.raises(ValueError, match=message):
        build_networks(image_size=image_size, **TINY_MODEL | changes)
