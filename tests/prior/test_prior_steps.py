"""The last steps of a run, which are the prior's and its guide's alone."""

import functools

import jax
import numpy as np
import optax
import pytest

from tests.conftest import assert_trees_equal, records, run_config
from uctgan_jax import phases, training
from uctgan_jax.nets import build_networks
from uctgan_jax.parallel import DataParallel
from uctgan_jax.prior import whitening


def test_the_last_steps_are_for_the_prior_alone(straight, tmp_path, picture_folder):
    """Here after four steps as those of `straight`; and after the whole of it, by `init_from`."""
    workdir, whole = straight
    one = training.train(run_config(picture_folder, prior_steps=2), tmp_path / "one").ema_params
    logged = records(tmp_path / "one")
    assert ["loss/generator" in r for r in logged] == [True] * 4 + [False] * 2
    assert all("loss/prior" in r for r in logged)
    # The guide is the prior of before.
    assert_trees_equal(whole.ema_params["guide"], whole.ema_params["prior"])
    assert not np.array_equal(*(one[name]["velocity"]["kernel"] for name in ("guide", "prior")))

    # What the prior has measured of E2 holds no longer once E2 moves on.
    for changes in (dict(num_train_steps=8), dict(num_train_steps=7)):
        with pytest.raises(training.ConfigMismatchError, match="alone since step 4"):
            training.train(run_config(picture_folder, prior_steps=2, **changes), tmp_path / "one")

    config = run_config(picture_folder, prior_steps=4, num_train_steps=4)
    config.init_from = str(workdir)
    state = training.train(config, tmp_path / "two")
    assert int(state.step) == 4
    assert_trees_equal(state.discriminator_params, whole.discriminator_params)
    for name in ("projection", "encoder", "generator"):
        assert_trees_equal(state.generator_params[name], whole.ema_params[name])
    for name in ("projection", "encoder", "guide", "generator"):
        assert_trees_equal(state.ema_params[name], whole.ema_params[name])
    changed = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), state.prior_params, whole.ema_params["prior"]
    )
    assert all(jax.tree.leaves(changed))
    # What it began with is part of the run.
    config.init_from = str(tmp_path / "two")
    with pytest.raises(training.ConfigMismatchError, match="init_from"):
        training.train(config, tmp_path / "two")


def test_the_guide_learns_first_and_from_scratch(straight, tmp_path, picture_folder):
    """The prior waits meanwhile, also if the run stops in between."""
    workdir, begun = straight
    sizes = dict(init_from=str(workdir), guide_steps=2, prior_examples=16)
    short = run_config(picture_folder, num_train_steps=2, prior_steps=2, **sizes)
    halfway = training.train(short, tmp_path / "parts")
    assert_trees_equal(halfway.ema_params["prior"], begun.ema_params["prior"])
    fresh = build_networks(image_size=32, **short.model).init_generator
    guide, start = halfway.ema_params["guide"], fresh(jax.random.key(0))["prior"]
    distance, length = (
        optax.tree.norm(jax.tree.map(np.subtract, tree, other))
        for tree, other in ((guide, start), (guide, begun.ema_params["guide"]))
    )
    assert 0 < distance < 0.2 * length

    config = run_config(picture_folder, num_train_steps=4, prior_steps=4, **sizes)
    whole = training.train(config, tmp_path / "whole")
    assert_trees_equal(whole.ema_params["guide"], guide)
    distance, length = (
        optax.tree.norm(jax.tree.map(np.subtract, whole.ema_params["prior"], other))
        for other in (begun.ema_params["prior"], guide)
    )
    assert 0 < distance < 0.2 * length
    assert_trees_equal(training.train(config, tmp_path / "parts"), whole)


def test_the_prior_learns_from_batches_of_its_own_size(tmp_path, picture_folder, monkeypatch):
    """The stream of examples goes on, also for a run that stopped in between; so does the log.

    And so does the measuring of what the prior sees, here of three batches.
    """
    monkeypatch.setattr(whitening, "inputs_needed", lambda size: 20)
    monkeypatch.setattr(phases, "inputs_needed", whitening.inputs_needed)
    seen = []

    def spying_on(make_step):
        def make(**options):
            step = make_step(**options)

            def seeing_step(state, batch):
                jax.debug.callback(lambda index: seen.append(index.tolist()), batch["index"])
                return step(state, batch)

            return seeing_step

        return make

    for name in ("make_train_step", "make_prior_step"):
        monkeypatch.setattr(phases, name, spying_on(getattr(phases, name)))
    sizes = dict(batch_size=4, prior_batch_size=8, prior_steps=3, parallel="jit")
    sizes["prior_examples"] = 20  # two batches: the third step's are of their rows
    everything = run_config(picture_folder, log_every_steps=4, **sizes)
    devices = dict(devices=jax.devices()[:1])
    monkeypatch.setattr(training, "DataParallel", functools.partial(DataParallel, **devices))
    whole = training.train(everything, tmp_path / "whole")
    jax.effects_barrier()
    fours, eights = (
        [[*range(n, n + 4)] for n in (0, 4, 8)],
        [[*range(n, n + 8)] for n in (16, 24, 32)],
    )
    assert sorted(seen) == sorted(fours + eights)

    first, second = records(tmp_path / "whole")
    assert "loss/generator" in first and "loss/generator" not in second
    assert np.isfinite([first["loss/generator"], first["loss/prior"], second["loss/prior"]]).all()

    training.train(
        run_config(picture_folder, num_train_steps=5, **sizes | {"prior_steps": 2}),
        tmp_path / "parts",
    )
    resumed = training.train(everything, tmp_path / "parts")
    assert_trees_equal(resumed, whole)
    measured, _ = whole.prior_opt_state
    assert measured.count == 24
    assert (np.tril(measured.matrix, -1) == 0).all() and (np.diag(measured.matrix) > 0).all()
