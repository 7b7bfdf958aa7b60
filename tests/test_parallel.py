"""All ways of spreading the step give the numbers of one device."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

from tests.conftest import LOSS_WEIGHTS, assert_trees_equal
from uctgan_jax.parallel import MODES, DataParallel, initialize_processes
from uctgan_jax.prior import whitening
from uctgan_jax.prior.flow import CONDITION_LAYER
from uctgan_jax.train_state import Optimizers, create_train_state
from uctgan_jax.train_step import make_measure, make_prior_step, make_train_step

# SGD: Adam would hide a gradient that is wrong by a factor.
SGD = optax.sgd(1e-2)
OPTIMIZERS = Optimizers(generator=SGD, prior=SGD, discriminator=SGD)


def begin(networks, mode, devices, make_step, optimizers=OPTIMIZERS):
    parallel = DataParallel(mode, devices)
    step = parallel.compile(
        make_step(
            networks=networks,
            optimizers=optimizers,
            seed=0,
            ema_decay=0.9,
            axis_name=parallel.axis_name,
        )
    )
    create = jax.jit(lambda key: create_train_state(key, networks, optimizers))
    return parallel, step, parallel.replicate(create(jax.random.key(0)))


def two_steps(networks, batch, mode, devices, make_step, optimizers=OPTIMIZERS, measure=False):
    parallel, step, state = begin(networks, mode, devices, make_step, optimizers)
    if measure:
        state, _ = parallel.compile(make_measure(parallel.axis_name))(state, parallel.shard(batch))
    second = {**batch, "index": batch["index"] + 8}
    for sharded in parallel.prefetch([batch, second]):
        before = state
        state, metrics = step(state, sharded)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "state is not donated"
    return parallel.fetch(state), parallel.fetch(metrics)


game_step = functools.partial(make_train_step, weights=LOSS_WEIGHTS, instance_path=True)


@pytest.fixture(scope="module")
def one_device(networks):
    results = {}

    def run(patches):
        if not results:
            results["once"] = two_steps(networks, patches, "jit", jax.devices()[:1], game_step)
        return results["once"]

    return run


@pytest.mark.parametrize(
    ("mode", "num_devices", "num_parts"),
    [*((mode, 8, 1) for mode in MODES), ("shard_map", 4, 2), ("jit", 2, 4)],
)
def test_many_devices_and_parts_equal_one(
    networks, patches, one_device, mode, num_devices, num_parts
):
    expected_state, expected_metrics = one_device(patches)
    step = functools.partial(game_step, num_parts=num_parts)
    state, metrics = two_steps(networks, patches, mode, jax.devices()[:num_devices], step)
    assert_trees_equal(state, expected_state, rtol=1e-5, atol=1e-6)
    assert_trees_equal(metrics, expected_metrics, rtol=1e-4, atol=1e-6)


def encoded_batch():
    rng = np.random.default_rng(0)
    return {
        "mean": rng.normal(size=(8, 4)).astype(np.float32),
        "log_variance": rng.normal(size=(8, 4)).astype(np.float32),
        "condition": rng.normal(size=(8, 384)).astype(np.float16),
        "index": np.arange(8, dtype=np.uint32),
    }


@pytest.mark.parametrize("mode", MODES)
def test_a_number_that_is_not_finite_on_one_device_changes_nothing_on_any(networks, mode):
    parallel, step, state = begin(networks, mode, jax.devices(), make_prior_step)
    before, batch = parallel.fetch(state), encoded_batch()
    batch["mean"][5, 2] = np.nan
    state, metrics = step(state, parallel.shard(batch))
    assert parallel.fetch(metrics)["nonfinite"] == 1
    for device in range(8):
        after = jax.tree.map(lambda x, d=device: np.asarray(x.addressable_data(d)), state)
        if mode == "pmap":  # with an axis of devices
            after = jax.tree.map(lambda x: x[0], after)
        assert (after.step, after.nonfinite_steps) == (1, 1)
        assert_trees_equal(after.replace(step=before.step, nonfinite_steps=np.int32(0)), before)


@pytest.mark.parametrize("mode", MODES)
def test_eight_devices_whiten_what_the_prior_sees_as_one(networks, mode, monkeypatch):
    """Measured enough of before, so that both steps are in white coordinates."""
    monkeypatch.setattr(whitening, "_INPUTS_PER_DIMENSION", 0.001)
    optimizers = dataclasses.replace(
        OPTIMIZERS, prior=whitening.whitened(SGD, layer=CONDITION_LAYER)
    )
    expected, state = (
        two_steps(
            networks, encoded_batch(), mode, devices, make_prior_step, optimizers, measure=True
        )[0]
        for devices in (jax.devices()[:1], jax.devices())
    )
    assert state.prior_opt_state.count == 8
    assert_trees_equal(state.prior_params, expected.prior_params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_compiled_ahead_is_not_compiled_again(mode, compilations):
    parallel = DataParallel(mode)

    def step(state, batch):
        mean = batch["x"].mean()
        return state + (jax.lax.pmean(mean, parallel.axis_name) if parallel.axis_name else mean), {}

    def batch(size):
        return parallel.shard({"x": np.arange(size * 3, dtype=np.float32).reshape(size, 3)})

    state, first, other = parallel.replicate(np.float32(1)), batch(8), batch(16)
    shapes = [{"x": jax.ShapeDtypeStruct((size, 3), np.float32)} for size in (8, 16)]
    steps = parallel.compile_ahead([parallel.compile(step)] * 2, state, shapes)
    assert compilations
    compilations.clear()
    for compiled, examples in zip(steps, (first, other), strict=True):
        state, _ = compiled(state, examples)
    assert parallel.fetch(state) == 1 + 11.5 + 23.5
    assert not compilations


@pytest.mark.parametrize("mode", MODES)
def test_rows_come_back_in_their_order(mode):
    parallel = DataParallel(mode)
    double = parallel.compile_rows(lambda params, batch: {"y": params * batch["x"]})
    x = np.arange(48, dtype=np.float32).reshape(16, 3)
    rows = double(parallel.replicate(np.float32(2)), parallel.shard({"x": x}))
    np.testing.assert_array_equal(parallel.fetch_rows(rows)["y"], 2 * x)


@pytest.mark.parametrize("mode", MODES)
def test_state_survives_the_round_trip(mode):
    parallel = DataParallel(mode)
    state = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.int32(4)}
    assert_trees_equal(parallel.fetch(parallel.replicate(state)), state)


def test_replicate_does_not_alias_its_argument():
    """Donating the replica must not delete the original."""
    original = jax.numpy.arange(4.0)
    parallel = DataParallel("jit", jax.devices()[:1])
    step = parallel.compile(lambda state, batch: (state + 1, batch.sum()))
    step(parallel.replicate(original), np.ones(2, np.float32))
    np.testing.assert_array_equal(original, np.arange(4.0))


def test_prefetch_keeps_order_and_loses_nothing():
    batches = [{"x": np.full((8, 1), i, np.float32)} for i in range(5)]
    out = [int(b["x"][0, 0]) for b in DataParallel("jit").prefetch(batches, size=3)]
    assert out == [0, 1, 2, 3, 4]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match=r"parallel \('vmap'\) must be one of"):
        DataParallel("vmap")
    with pytest.raises(ValueError, match=r"batch_size \(30\) .* number of devices \(8\)"):
        DataParallel("jit").check_batch_size(30)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("localhost", 1, 0), r"coordinator_address \(localhost\) must be HOST:PORT"),
        ((None, 2, None), "must be given together"),
        ((), r"\(should be defined\): where neither a TPU pod nor SLURM tells"),
    ],
)
def test_processes_that_cannot_be_found(monkeypatch, given, message):
    def nowhere(*arguments):
        raise ValueError("should be defined")  # as JAX does where no cluster is known

    monkeypatch.setattr(jax.distributed, "initialize", nowhere)
    with pytest.raises(ValueError, match=message):
        initialize_processes(*given)
