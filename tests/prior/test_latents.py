"""Batches of the prior's own steps: nothing is encoded twice, nothing left out, nobody else's."""

import itertools

import numpy as np
import pytest

from uctgan_jax.prior.latents import encoded_batches

BATCH_SIZE, NUM_KEPT = 6, 4
FIRST = 60  # in the stream of examples


def fresh_batches(process_index=0, process_count=1, *, encoded=None):
    """Rows that tell which example they are."""
    rows = BATCH_SIZE // process_count
    for number in range(NUM_KEPT):
        if encoded is not None:
            encoded.append(number)
        start = FIRST + number * BATCH_SIZE + process_index * rows
        index = np.arange(start, start + rows)
        yield {
            "mean": index[:, None] * np.ones((1, 3), np.float32),
            "condition": index[:, None].astype(np.float16),
            "index": index.astype(np.uint32),
        }


def batches(count, *, start_step=0, process_index=0, process_count=1, seed=0, encoded=None):
    processes = dict(process_index=process_index, process_count=process_count)
    stream = encoded_batches(
        fresh_batches(encoded=encoded, **processes),
        batch_size=BATCH_SIZE,
        num_kept=NUM_KEPT,
        seed=seed,
        start_step=start_step,
        **processes,
    )
    return list(itertools.islice(stream, count))


def test_every_epoch_has_every_example_once_in_an_order_of_its_own():
    encoded = []
    epochs = np.array([batch["mean"][:, 0] for batch in batches(12, encoded=encoded)])
    epochs = epochs.reshape(3, NUM_KEPT, BATCH_SIZE)
    assert encoded == [0, 1, 2, 3]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch.ravel()), np.arange(FIRST, FIRST + 24))
    np.testing.assert_array_equal(epochs[0].ravel(), np.arange(FIRST, FIRST + 24))
    orders = epochs[1:] - FIRST
    assert not np.array_equal(*orders)
    # Rows that were together are not together again.
    assert all(len(set(batch // BATCH_SIZE)) > 1 for order in orders for batch in order)
    other = batches(12, seed=1)
    assert not np.array_equal(other[-1]["mean"][:, 0], epochs[-1, -1])


def test_positions_go_on_and_what_belongs_together_stays_together():
    for number, batch in enumerate(batches(11)):
        start = FIRST + number * BATCH_SIZE
        np.testing.assert_array_equal(batch["index"], np.arange(start, start + BATCH_SIZE))
        assert batch["index"].dtype == np.uint32 and batch["condition"].dtype == np.float16
        np.testing.assert_array_equal(batch["mean"][:, :1], batch["condition"])


@pytest.mark.parametrize("start_step", [2, 4, 7])
def test_a_resumed_stream_is_the_same(start_step, capsys):
    whole = batches(11)[start_step:]
    resumed = batches(11 - start_step, start_step=start_step)
    for ours, theirs in zip(resumed, whole, strict=True):
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert "encode: 100%" in capsys.readouterr().err


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
