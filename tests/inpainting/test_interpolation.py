"""Walks between codes."""

import numpy as np
import pytest

from uctgan_jax.inpainting.interpolation import interpolate


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_ends_are_exact_lengths_go_evenly_and_so_do_angles():
    rng = np.random.default_rng(0)
    start = rng.normal(size=32).astype(np.float32)
    end = 3 * rng.normal(size=32).astype(np.float32)
    codes = interpolate(start, end, 7)
    assert codes.shape == (7, 32) and codes.dtype == np.float32
    np.testing.assert_array_equal(codes[0], start)
    np.testing.assert_array_equal(codes[-1], end)
    lengths = np.linalg.norm(codes, axis=1)
    np.testing.assert_allclose(
        lengths, np.linspace(np.linalg.norm(start), np.linalg.norm(end), 7), rtol=1e-5
    )
    turns = np.arccos((unit(codes[1:]) * unit(codes[:-1])).sum(1))
    np.testing.assert_allclose(turns, turns[0], rtol=1e-3)
    # The straight line's middle is shorter.
    assert np.linalg.norm((start + end) / 2) < 0.9 * lengths[3]


def test_a_quarter_circle():
    codes = interpolate(np.array([2, 0]), np.array([0, 2]), 3)
    np.testing.assert_allclose(codes[1], [2**0.5, 2**0.5], rtol=1e-6)


@pytest.mark.parametrize("end", [[2, 4], [1, 2], [0, 0], [-1, -2]])
def test_codes_that_no_single_arc_joins(end):
    codes = interpolate(np.array([1, 2]), np.array(end), 5)
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(codes, np.linspace([1, 2], end, 5), rtol=1e-6)


@pytest.mark.parametrize(
    ("start", "end", "steps", "message"),
    [
        ([1, 2], [1, 2, 3], 5, r"codes \(2,\) and \(3,\) must both be \[Z\]"),
        ([[1, 2]], [[1, 2]], 5, r"codes \(1, 2\) and"),
        ([1, np.nan], [1, 2], 5, "finite"),
        ([1, 2], [3, 4], 1, r"steps \(1\) must be at least 2"),
    ],
)
def test_impossible_walks_are_refused(start, end, steps, message):
    with pytest.raises(ValueError, match=message):
        interpolate(np.array(start), np.array(end), steps)
