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


def test_known_l1_is_a_mean_over_each_pictures_known_pixels():
    value = losses.known_l1(completion=A, target=B, mask=MASK)
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


def test_flow_matching_asks_for_the_mean_velocity_of_all_pairs_that_meet_there():
    rng = np.random.default_rng(0)
    noise, code = rng.normal(size=(2, 200_000)) * [[1.0], [0.5]] + [[0.0], [2.0]]
    way = 0.7 * noise + 0.3 * code
    fit = np.polynomial.Polynomial.fit(way, code - noise, 1)
    codes = {"mean": jnp.full((1, 1), 2.0), "log_variance": jnp.log(jnp.full((1, 1), 0.25))}
    points = jnp.linspace(-1.0, 2.0, 7).reshape(1, 7, 1)
    time = jnp.full((1, 7), 0.3)

    def loss(velocity):
        return losses.flow_matching(velocity=velocity, way=points, time=time, **codes)

    mean_velocity = jnp.asarray(fit(np.asarray(points)))
    assert loss(mean_velocity) < 1e-4
    np.testing.assert_allclose(loss(mean_velocity + 0.5), 0.25, atol=0.01)


def test_flow_matching_of_a_code_that_is_known_is_that_of_the_pair():
    noise, code = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    mean = code[:, 0]
    time = jnp.linspace(0.0, 0.9, 4) * jnp.ones((3, 1))
    way = noise + time[..., None] * (mean[:, None] - noise)
    value = losses.flow_matching(
        velocity=jnp.zeros_like(way),
        way=way,
        time=time,
        mean=mean,
        log_variance=jnp.full_like(mean, -30.0),
    )
    np.testing.assert_allclose(value, jnp.mean((mean[:, None] - noise) ** 2), rtol=1e-3)


def test_hinge_discriminator():
    value = losses.hinge_discriminator(
        real_logits=jnp.array([2.0, 0.5]), fake_logits=jnp.array([-3.0, 0.0])
    )
    np.testing.assert_allclose(value, (0.0 + 0.5) / 2 + (0.0 + 1.0) / 2, rtol=1e-6)


def test_hinge_generator():
    value = losses.hinge_generator(fake_logits=jnp.array([2.0, -1.0]))
    np.testing.assert_allclose(value, -0.5, rtol=1e-6)
