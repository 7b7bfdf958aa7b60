"""All ways of spreading a step give the numbers of one device."""

import functools

import jax
import numpy as np
import optax
import pytest

from tests.conftest import LOSS_WEIGHTS, TINY_MODEL, assert_trees_equal
from uctgan_jax.nets import build_networks
from uctgan_jax.optimizers import Optimizers
from uctgan_jax.parallel import MODES, DataParallel, initialize_processes
from uctgan_jax.prior.flow import CONDITION_LAYER
from uctgan_jax.prior.training import PriorState, PriorTrainee, prior_step
from uctgan_jax.prior.whitening import measure, whitened
from uctgan_jax.train_state import create_train_state
from uctgan_jax.train_step import Trainee, train_step

# Adam would hide a gradient that is wrong by a factor.
SGD = optax.sgd(1e-2)
# The mode, the number of devices, and the number of parts that each takes its share in.
SPREADS = [("shard_map", 4, 2), ("pmap", 8, 1)]
MORE_SPREADS = [("jit", 8, 1), ("shard_map", 8, 1), ("jit", 2, 4), ("pmap", 2, 2)]


def two_steps(step, state, batch, mode, num_devices):
    """The state and metrics after two steps of eight examples each, on so many devices.

    Args:
      step: `step(state, batch, axis_name)`.
    """
    parallel = DataParallel(mode, jax.devices()[:num_devices])
    compiled = parallel.compile(functools.partial(step, axis_name=parallel.axis_name))
    second = {**batch, "index": batch["index"] + 8}
    state = parallel.replicate(state)
    for sharded in parallel.prefetch([batch, second]):
        before = state
        state, metrics = compiled(state, sharded)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before)), "state is not donated"
    return parallel.fetch(state), parallel.fetch(metrics)


@pytest.fixture(scope="module")
def players():
    """`step(num_parts)` of E1, E2, G and D with one level each, and a fresh state."""
    one_level = dict.fromkeys(("encoder_widths", "generator_widths", "discriminator_widths"), (8,))
    model = TINY_MODEL | one_level | {"attention_resolution": 0}
    networks = build_networks(image_size=32, **model)
    optimizers = Optimizers(generator=SGD, discriminator=SGD)

    def step(num_parts):
        def step(state, batch, axis_name):
            trainee = Trainee(
                networks=networks,
                optimizers=optimizers,
                weights=LOSS_WEIGHTS,
                seed=0,
                ema_decay=0.9,
                num_parts=num_parts,
                axis_name=axis_name,
            )
            return train_step(trainee, state, batch)

        return step

    create = functools.partial(create_train_state, networks=networks, optimizers=optimizers)
    return step, jax.device_get(jax.jit(create)(jax.random.key(0)))


@pytest.fixture(scope="module")
def one_device(players):
    """The two steps on one device, taken once."""
    step, state = players
    results = []

    def run(patches):
        if not results:
            results.append(two_steps(step(1), state, patches, "jit", 1))
        return results[0]

    return run


@pytest.mark.parametrize(
    ("mode", "num_devices", "num_parts"),
    [*SPREADS, *(pytest.param(*spread, marks=pytest.mark.slow) for spread in MORE_SPREADS)],
)
def test_many_devices_and_parts_equal_one(
    players, one_device, patches, mode, num_devices, num_parts
):
    step, state = players
    expected_state, expected_metrics = one_device(patches)
    state, metrics = two_steps(step(num_parts), state, patches, mode, num_devices)
    assert_trees_equal(state, expected_state, rtol=1e-5, atol=1e-6)
    assert_trees_equal(metrics, expected_metrics, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def latents():
    """Eight cached latents of an encoder with 16 numbers, most of whose spread is along a few."""
    rng = np.random.default_rng(0)
    condition = rng.normal(size=(8, 16)) * np.logspace(1, -1, 16) + 3
    return {
        "mean": rng.normal(size=(8, 4)).astype(np.float32),
        "log_variance": rng.normal(size=(8, 4)).astype(np.float32),
        "condition": condition.astype(np.float16),
        "index": np.arange(8, dtype=np.uint32),
    }


@pytest.fixture(scope="module")
def learner(prior, latents):
    """`step(num_parts)` of a prior with a whitened first layer, and a state."""
    center, frame = measure(latents["condition"])
    optimizer = whitened(SGD, layer=CONDITION_LAYER, center=center, frame=frame)

    def step(num_parts):
        def step(state, batch, axis_name):
            trainee = PriorTrainee(
                prior=prior,
                optimizer=optimizer,
                seed=0,
                ema_decay=0.9,
                num_parts=num_parts,
                axis_name=axis_name,
            )
            return prior_step(trainee, state, batch)

        return step

    shapes = jax.eval_shape(prior.init, jax.random.key(0), latents["condition"])
    # Fresh ones have a last layer of zeros, which lets no gradient through.
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), shapes)
    state = PriorState(
        step=np.int32(0),
        params=params,
        opt_state=optimizer.init(params),
        ema_params=params,
        nonfinite_steps=np.int32(0),
    )
    return step, jax.device_get(state)


@pytest.fixture(scope="module")
def prior_on_one_device(learner, latents):
    step, state = learner
    return two_steps(step(1), state, latents, "jit", 1)


@pytest.mark.parametrize(("mode", "num_devices", "num_parts"), SPREADS + MORE_SPREADS)
def test_many_devices_and_parts_equal_one_for_the_prior(
    learner, prior_on_one_device, latents, mode, num_devices, num_parts
):
    step, state = learner
    expected, expected_metrics = prior_on_one_device
    after, metrics = two_steps(step(num_parts), state, latents, mode, num_devices)
    layers = (tree.params[CONDITION_LAYER]["kernel"] for tree in (after, state))
    assert np.abs(np.subtract(*layers)).max() > 1e-4
    assert_trees_equal(after, expected, rtol=1e-5, atol=1e-6)
    assert_trees_equal(metrics, expected_metrics, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_number_that_is_not_finite_on_one_device_changes_nothing_on_any(learner, latents, mode):
    step, before = learner
    parallel = DataParallel(mode)
    compiled = parallel.compile(functools.partial(step(1), axis_name=parallel.axis_name))
    mean = latents["mean"].copy()
    mean[5, 2] = np.nan
    state, metrics = compiled(parallel.replicate(before), parallel.shard(latents | {"mean": mean}))
    assert parallel.fetch(metrics)["nonfinite"] == 1
    for device in range(8):
        after = jax.tree.map(lambda x, d=device: np.asarray(x.addressable_data(d)), state)
        if mode == "pmap":  # with an axis of devices
            after = jax.tree.map(lambda x: x[0], after)
        assert (after.step, after.nonfinite_steps) == (1, 1)
        assert_trees_equal(after.replace(step=before.step, nonfinite_steps=np.int32(0)), before)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_compiled_ahead_is_not_compiled_again(mode, compilations):
    parallel = DataParallel(mode)

    def step(state, batch, factor):
        mean = factor * batch["x"].mean()
        return state + (jax.lax.pmean(mean, parallel.axis_name) if parallel.axis_name else mean), {}

    batch = parallel.shard({"x": np.arange(24, dtype=np.float32).reshape(8, 3)})
    state = parallel.replicate(np.float32(1))
    steps = [parallel.compile(functools.partial(step, factor=factor)) for factor in (1, 2)]
    steps = parallel.compile_ahead(steps, state, batch)
    assert compilations
    compilations.clear()
    for compiled in steps:
        state, _ = compiled(state, batch)
    assert parallel.fetch(state) == 1 + 11.5 + 23
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
    with pytest.raises(ValueError, match=r"\(8\) times gradient_accumulation \(3\)"):
        DataParallel("jit").check_batch_size(32, num_parts=3)


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
