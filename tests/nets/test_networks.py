"""The four networks at every preset: shapes, types, counts, gradients, rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import TINY_MODEL, model_params
from uctgan_jax.configs import default
from uctgan_jax.nets import build_networks, sample_code
from uctgan_jax.preprocess import normalize

# E1, E2, G and D. A change of architecture must be meant: it makes every checkpoint unreadable.
PARAMETER_COUNTS = {
    32: (440_224, 449_264, 997_949, 717_461),
    64: (621_904, 532_592, 1_452_589, 795_077),
    128: (2_953_792, 2_441_024, 6_482_225, 3_918_533),
    256: (6_212_096, 5_314_816, 8_156_865, 5_729_605),
}


def run_all(networks, params, image, mask):
    """Every network once, as in training; pictures go in and come out."""
    image, mask = networks.to_patches(image), networks.to_patches(mask)
    mean, log_variance = networks.project(params, image)
    condition = networks.encode(params, image, mask)
    code = sample_code(jnp.ones_like(mean), mean, log_variance)
    output = networks.generate(params, code, condition, mask)
    maps = networks.judged(networks.features(output))
    logits = networks.discriminate(params["discriminator"], output, mask, maps)
    return mean, log_variance, condition, networks.to_pictures(output), logits


def shapes_of(networks):
    """The shapes of all parameters, and of what two pictures become."""
    size = networks.image_size

    def run(key):
        params = networks.init_generator(key)
        params["discriminator"] = networks.init_discriminator(key)
        image, mask = jnp.zeros((2, size, size, 3)), jnp.zeros((2, size, size, 1))
        return params, run_all(networks, params, image, mask)

    return jax.eval_shape(run, jax.random.key(0))


@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("image_size", list(PARAMETER_COUNTS))
def test_shapes_types_and_counts(image_size, compute_dtype):
    model = default.get_config(image_size).model
    networks = build_networks(image_size=image_size, compute_dtype=compute_dtype, **model)
    params, (mean, log_variance, condition, output, logits) = shapes_of(networks)

    assert mean.shape == log_variance.shape == (2, model.code_dim)
    side = image_size // model.patch_size
    assert [c.shape for c in condition] == [
        (2, side >> level, side >> level, width) for level, width in enumerate(model.encoder_widths)
    ]
    assert {c.dtype for c in condition} == {jnp.dtype(compute_dtype)}
    assert output.shape == (2, image_size, image_size, 3)
    assert logits.shape == (2, 5)
    for outside in (mean, log_variance, output, logits, *jax.tree.leaves(params)):
        assert outside.dtype == jnp.float32
    counts = tuple(
        sum(leaf.size for leaf in jax.tree.leaves(params[name]))
        for name in ("projection", "encoder", "generator", "discriminator")
    )
    assert counts == PARAMETER_COUNTS[image_size]


def test_512_px_runs():
    _, (*_, output, logits) = shapes_of(build_networks(image_size=512, **default.MODELS[256]))
    assert output.shape == (2, 512, 512, 3) and logits.shape == (2, 5)


@pytest.fixture(scope="module")
def trained_like(networks):
    """Parameters moved off their special initial values, such as gamma = 0."""
    leaves, structure = jax.tree.flatten(jax.device_get(model_params(networks, seed=0)))
    rng = np.random.default_rng(1)
    return structure.unflatten(
        [x + 0.1 * rng.standard_normal(np.shape(x), np.float32) for x in leaves]
    )


def test_finite_gradients_reach_every_parameter(networks, trained_like, batch):
    @jax.jit
    @jax.grad
    def gradients(params):
        mean, log_variance, _, output, logits = run_all(
            networks, params, normalize(batch["image"]), batch["mask"].astype(np.float32)
        )
        return sum((x**2).mean() for x in (output, logits, mean, log_variance))

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients(trained_like)):
        name = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), name
        # The bias of attention's keys shifts all scores of a query alike: softmax ignores it.
        if "['key']['bias']" not in name:
            assert np.abs(gradient).max() > 0, name


def test_code_and_condition_both_matter(networks, trained_like, batch):
    image, mask = normalize(batch["image"]), batch["mask"].astype(np.float32)

    @jax.jit
    def generate(code, image):
        image, patches = networks.to_patches(image), networks.to_patches(mask)
        condition = networks.encode(trained_like, image, patches)
        return networks.generate(trained_like, code, condition, patches)

    codes = jax.random.normal(jax.random.key(2), (2, 8, networks.code_dim))
    first = generate(codes[0], image)
    assert np.abs(generate(codes[1], image) - first).mean() > 0.05
    assert np.abs(generate(codes[0], -image) - first).mean() > 0.05
    assert np.abs(first).max() <= 1
    # What lies under the hole is never seen.
    hidden = jnp.where(mask > 0, 0.3, image)
    np.testing.assert_array_equal(generate(codes[0], hidden), first)


def test_a_fresh_generator_paints_no_checkerboard(networks, batch):
    """All pixels of a patch begin with the same colour."""
    image, mask = normalize(batch["image"]), batch["mask"].astype(np.float32)
    run = jax.jit(lambda params: run_all(networks, params, image, mask)[3])
    output = run(model_params(networks, seed=0))
    patches = np.asarray(networks.to_patches(output))
    pixels = patches.reshape(*patches.shape[:-1], -1, 3)
    assert pixels.std(axis=(0, 1, 2)).min() > 0.01
    np.testing.assert_allclose(pixels, pixels[..., :1, :] + 0 * pixels, atol=1e-5)


def test_a_code_is_its_mean_and_noise_of_its_spread():
    mean, log_variance = jnp.array([[1.0, -2.0]]), jnp.log(jnp.array([[4.0, 0.25]]))
    code = sample_code(jnp.array([[3.0, 2.0]]), mean, log_variance)
    np.testing.assert_allclose(code, [[1 + 2 * 3, -2 + 0.5 * 2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("image_size", "changes", "message"),
    [
        (48, {}, r"image_size \(48\) must be a power of two from 32 to 512"),
        (16, {}, r"image_size \(16\) must be a power of two from 32 to 512"),
        (1024, {}, r"image_size \(1024\) must be a power of two from 32 to 512"),
        (32, {"patch_size": 3}, r"patch_size \(3\) must be a power of two"),
        (
            32,
            {"discriminator_patch_size": 2},
            r"discriminator_patch_size \(2\) must be patch_size \(4\) times a power of two",
        ),
        (32, {"discriminator_patch_size": 12}, r"discriminator_patch_size \(12\) must be"),
        (32, {"code_dim": 0}, r"code_dim \(0\) must be 1 or more"),
        (32, {"generator_blocks": 0}, r"generator_blocks \(0\) must be 1 or more"),
        (32, {"encoder_widths": (8, 0)}, r"encoder_widths \(\(8, 0\)\) must each be 1 or more"),
        (
            32,
            {"projection_widths": (8,) * 4},
            r"projection_widths \(\(8, 8, 8, 8\)\) .* 2 x 2 or more from 8 positions",
        ),
        (
            32,
            {"discriminator_widths": (8,) * 3},
            r"discriminator_widths \(\(8, 8, 8\)\) .* 2 x 2 or more from 4 positions",
        ),
        (32, {"discriminator_widths": ()}, r"discriminator_widths \(\(\)\) must have 1 level"),
        (32, {"generator_widths": (8, 12)}, r"generator_widths \(\(8, 12\)\) .* multiples of 8"),
        (
            32,
            {"generator_widths": (8,)},
            r"encoder_widths \(\(8, 16\)\) and generator_widths \(\(8,\)\) must have the same",
        ),
        (
            32,
            {"attention_resolution": 5},
            r"attention_resolution \(5\) must be 0 or one of .* \[8, 4\]",
        ),
        (32, {"attention_heads": 3}, r"attention_heads \(3\) must divide the width \(16\)"),
        (32, {"attention_heads": 0}, r"attention_heads \(0\) must divide the width \(16\)"),
        (32, {"compute_dtype": "float16"}, r"compute_dtype \('float16'\) must be 'float32' or"),
    ],
)
def test_impossible_sizes_are_refused_with_value_and_rule(image_size, changes, message):
    with pytest.raises(ValueError, match=message):
        build_networks(image_size=image_size, **TINY_MODEL | changes)
