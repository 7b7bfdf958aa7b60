"""Spectral normalisation bounds what it claims to bound."""

import functools

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from uctgan_jax.nets.discriminator import Discriminator, SpectralConv


def test_spectral_norm_bounds_the_weights():
    """A 1x1 convolution is a matrix: it must not stretch its own first singular vector."""
    conv = SpectralConv(6, kernel_size=1, use_bias=False)
    updating = conv.clone(update_stats=True)
    x = jnp.zeros((1, 4, 4, 5))
    variables = conv.init(jax.random.key(0), x)
    variables["params"] = jax.tree.map(lambda kernel: 50 * kernel, variables["params"])

    @jax.jit
    def update(variables):
        _, stats = updating.apply(variables, x, mutable=["spectral_norm"])
        return {**variables, **stats}

    for _ in range(50):
        variables = update(variables)
    (kernel,) = jax.tree.leaves(variables["params"])
    left, singular, _ = np.linalg.svd(np.asarray(kernel)[0, 0])
    assert singular[0] > 10
    stretched = conv.apply(variables, jnp.asarray(left[:, 0]).reshape(1, 1, 1, 5))
    np.testing.assert_allclose(np.linalg.norm(stretched), 1.0, rtol=1e-4)


def test_every_kernel_of_the_discriminator_is_normalised():
    discriminator = Discriminator(widths=(8, 16))
    image, mask = jnp.zeros((1, 8, 8, 48)), jnp.zeros((1, 8, 8, 16))
    variables = jax.jit(discriminator.init)(jax.random.key(0), image, mask)
    update = jax.jit(
        functools.partial(discriminator.apply, update_stats=True, mutable=["spectral_norm"])
    )
    for _ in range(40):
        _, stats = update(variables, image, mask)
        variables = {**variables, **stats}
    kernels = {
        path[:-1]: np.asarray(kernel).reshape(-1, kernel.shape[-1])
        for path, kernel in flax.traverse_util.flatten_dict(variables["params"]).items()
        if path[-1] == "kernel"
    }
    sigmas = [
        (path[:-2], float(sigma))
        for path, sigma in flax.traverse_util.flatten_dict(variables["spectral_norm"]).items()
        if path[-1].endswith("sigma")
    ]
    # One statistic for each kernel, and each the kernel's largest singular value.
    true = sorted(np.linalg.norm(kernel, 2) for kernel in kernels.values())
    assert len(sigmas) == len(kernels) > 5
    np.testing.assert_allclose(sorted(sigma for _, sigma in sigmas), true, rtol=2e-2)


def test_statistics_move_only_when_asked():
    conv = SpectralConv(4)
    x = jnp.ones((1, 4, 4, 4))
    variables = conv.init(jax.random.key(0), x)
    _, kept = conv.apply(variables, x, mutable=["spectral_norm"])
    _, moved = conv.clone(update_stats=True).apply(variables, x, mutable=["spectral_norm"])
    before, kept, moved = (jax.tree.leaves(v["spectral_norm"]) for v in (variables, kept, moved))
    for a, b in zip(before, kept, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(before, moved, strict=True))
