"""Cached latents: nothing is encoded twice, nothing left out, nobody else's."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import assert_trees_equal, model_params
from uctgan_jax.parallel import MODES, DataParallel
from uctgan_jax.preprocess import normalize
from uctgan_jax.prior import summarize
from uctgan_jax.prior.latents import cache_latents, encode, gather_conditions, latent_batches

BATCH_SIZE, NUM_BATCHES = 6, 4


@pytest.fixture(scope="module")
def params(networks):
    return model_params(networks, seed=0)


def test_what_is_encoded_is_what_the_networks_see(networks, params, patches):
    encoded = encode(networks, params, patches)
    image, mask = normalize(patches["image"]), patches["mask"].astype(np.float32)
    mean, log_variance = networks.project(params, image)
    condition = summarize(networks.encode(params, image, mask)).astype(jnp.float16)
    expected = {"mean": mean, "log_variance": log_variance, "condition": condition}
    assert encoded["condition"].dtype == jnp.float16
    assert_trees_equal(encoded, expected)
    # Other pictures play no part.
    assert_trees_equal(encode(networks, params, patches | {"instance": None}), expected)


@pytest.mark.parametrize("mode", MODES)
def test_exactly_the_first_batches_are_cached_in_their_order(
    networks, params, patches, mode, capsys
):
    parallel = DataParallel(mode)
    batches = iter(
        [
            parallel.shard({"image": np.roll(patches["image"], n, axis=0), "mask": patches["mask"]})
            for n in range(3)
        ]
    )
    latents = cache_latents(networks, params, batches, parallel, num_batches=2)
    assert len(list(batches)) == 1
    one, _ = (np.asarray(x) for x in networks.project(params, normalize(patches["image"])))
    expected = np.stack([one, np.roll(one, 1, axis=0)])
    np.testing.assert_allclose(latents["mean"], expected, rtol=1e-4, atol=1e-5)
    assert latents["condition"].shape[:2] == (2, 8) and latents["condition"].dtype == np.float16
    assert "encode: 100%" in capsys.readouterr().err


def rows_that_tell_which_they_are(process_index=0, process_count=1):
    rows = BATCH_SIZE // process_count
    number = np.arange(NUM_BATCHES * BATCH_SIZE).reshape(NUM_BATCHES, BATCH_SIZE)
    own = number[:, process_index * rows : (process_index + 1) * rows, None]
    return {
        "mean": own * np.ones((1, 1, 3), np.float32),
        "log_variance": -own * np.ones((1, 1, 3), np.float32),
        "condition": own.astype(np.float16),
    }


def batches(count, *, start_step=0, seed=0, **process):
    stream = latent_batches(
        rows_that_tell_which_they_are(**process),
        batch_size=BATCH_SIZE,
        seed=seed,
        start_step=start_step,
        **process,
    )
    return list(itertools.islice(stream, count))


def test_every_epoch_has_every_example_once_in_an_order_of_its_own():
    epochs = np.array([batch["mean"][:, 0] for batch in batches(3 * NUM_BATCHES)])
    epochs = epochs.reshape(3, NUM_BATCHES, BATCH_SIZE)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch.ravel()), np.arange(NUM_BATCHES * BATCH_SIZE))
    assert not any(np.array_equal(*pair) for pair in itertools.combinations(epochs, 2))
    # Rows that were together are not together again.
    assert all(len(set(batch // BATCH_SIZE)) > 1 for epoch in epochs for batch in epoch)
    other = batches(1, seed=1)
    assert not np.array_equal(other[0]["mean"][:, 0], epochs[0, 0])


def test_positions_go_on_and_what_belongs_together_stays_together():
    for number, batch in enumerate(batches(11)):
        start = number * BATCH_SIZE
        np.testing.assert_array_equal(batch["index"], np.arange(start, start + BATCH_SIZE))
        assert batch["index"].dtype == np.uint32 and batch["condition"].dtype == np.float16
        np.testing.assert_array_equal(batch["mean"][:, :1], batch["condition"])
        np.testing.assert_array_equal(batch["mean"], -batch["log_variance"])


@pytest.mark.parametrize("start_step", [2, 4, 7])
def test_a_resumed_stream_is_the_same(start_step):
    whole = batches(11)[start_step:]
    for ours, theirs in zip(batches(11 - start_step, start_step=start_step), whole, strict=True):
        assert_trees_equal(ours, theirs)


def test_several_processes_have_the_rows_of_one():
    for start_step in (0, 5):
        whole = batches(9, start_step=start_step)
        parts = [
            batches(9, start_step=start_step, process_index=index, process_count=3)
            for index in range(3)
        ]
        for batch, *shares in zip(whole, *parts, strict=True):
            for name in batch:
                joined = np.concatenate([share[name] for share in shares])
                np.testing.assert_array_equal(joined, batch[name])


@pytest.mark.parametrize(("most", "expected"), [(8, 8), (12, 12), (1000, 24)])
def test_the_first_conditions_are_gathered_in_the_order_of_the_stream(most, expected):
    conditions = gather_conditions(rows_that_tell_which_they_are(), BATCH_SIZE, most)
    np.testing.assert_array_equal(conditions[:, 0], np.arange(expected))
