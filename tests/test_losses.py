"""Each loss against a value worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from uctgan_jax import losses
from uctgan_jax.nets.blocks import each_color, space_to_depth

# Two pictures of 1 x 2 pixels and 3 channels; the left pixel of the first is the hole.
A = jnp.array([[[[0.0] * 3, [1.0] * 3]], [[[0.5] * 3, [-1.0] * 3]]])
B = jnp.array([[[[0.4] * 3, [0.0] * 3]], [[[0.0] * 3, [1.0] * 3]]])
MASK = jnp.array([[[[1.0], [0.0]]], [[[0.0], [0.0]]]])


def test_reconstruction_l1():
    value = losses.reconstruction_l1(reconstruction=A, target=B)
    np.testing.assert_allclose(value, (0.4 + 1.0 + 0.5 + 2.0) / 4, rtol=1e-6)


def test_hole_l1_is_a_mean_over_each_hole():
    # 0.4 in the only hole pixel of the first picture; no hole in the second counts as 0.
    value = losses.hole_l1(reconstruction=A, target=B, mask=MASK)
    np.testing.assert_allclose(value, 0.4 / 2, rtol=1e-6)


def test_hole_square_is_a_mean_over_each_hole():
    value = losses.hole_square(reconstruction=A, target=B, mask=MASK)
    np.testing.assert_allclose(value, 0.4**2 / 2, rtol=1e-6)


def test_hole_l1_without_any_hole_has_a_finite_gradient():
    gradient = jax.grad(
        lambda a: losses.hole_l1(reconstruction=a, target=B, mask=jnp.zeros_like(MASK))
    )(A)
    np.testing.assert_array_equal(gradient, 0.0)


def test_condition_l1_is_a_mean_over_each_pictures_known_pixels():
    value = losses.condition_l1(completion=A, target=B, mask=MASK)
    np.testing.assert_allclose(value, (1.0 + (0.5 + 2.0) / 2) / 2, rtol=1e-6)


def test_masked_losses_are_the_same_on_patches():
    keys = jax.random.split(jax.random.key(0), 3)
    a, b = (jax.random.uniform(key, (2, 4, 4, 3)) for key in keys[:2])
    mask = jax.random.bernoulli(keys[2], shape=(2, 4, 4, 1)).astype(jnp.float32)
    of_pictures = losses.hole_l1(reconstruction=a, target=b, mask=mask)
    a, b, mask = (space_to_depth(x, 2) for x in (a, b, mask))
    of_patches = losses.hole_l1(reconstruction=a, target=b, mask=each_color(mask))
    np.testing.assert_allclose(of_patches, of_pictures, rtol=1e-6)


def test_manifold_l1():
    code = jnp.array([[1.0, 2.0], [0.0, -1.0]])
    target = jnp.array([[0.0, 2.0], [0.5, 1.0]])
    value = losses.manifold_l1(code=code, target_code=target)
    np.testing.assert_allclose(value, (1.0 + 0.0 + 0.5 + 2.0) / 4, rtol=1e-6)


def test_kl_divergence():
    # KL(N(m, s^2) || N(0, 1)) = (m^2 + s^2 - 1 - log s^2) / 2, summed over the code.
    mean = jnp.array([[0.0, 2.0], [0.0, 0.0]])
    log_variance = jnp.array([[0.0, np.log(4.0)], [0.0, 0.0]])
    value = losses.kl_divergence(mean=mean, log_variance=log_variance)
    np.testing.assert_allclose(value, 0.5 * (4 + 4 - 1 - np.log(4.0)) / 2, rtol=1e-6)


def test_the_adversaries_judge_pairs():
    """ln 2 where D cannot tell a completion from its picture; each side wants the other gap."""
    real, fake = jnp.array([[2.0, 0.0], [0.5, 1.0]]), jnp.array([[-1.0, 0.0], [0.5, 1.0]])
    np.testing.assert_allclose(
        losses.relativistic_discriminator(real_logits=real, fake_logits=fake),
        (np.log1p(np.exp(-3.0)) + 3 * np.log(2)) / 2,
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        losses.relativistic_generator(real_logits=real, fake_logits=fake),
        (np.log1p(np.exp(3.0)) + 3 * np.log(2)) / 2,
        rtol=1e-6,
    )


def test_the_gradient_penalty_is_half_the_squared_length():
    """D(x, y) is the sum of x^2, whose gradient is 2x, and of 3y."""
    x, y = jnp.array([[[[1.0, 2.0]]], [[[0.0, -3.0]]]]), jnp.ones((2, 1))
    penalty = losses.gradient_penalty(
        lambda seen: (seen[0] ** 2).sum(axis=(1, 2, 3)) + 3 * seen[1][:, 0], (x, y)
    )
    np.testing.assert_allclose(penalty, 0.5 * (4 * 5 + 4 * 9 + 9 + 9) / 2)
