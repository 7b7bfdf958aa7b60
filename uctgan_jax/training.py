"""The training loop: data in, steps, logs, samples and checkpoints out, resumable at any point."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import clu.parameter_overview
import jax
import ml_collections
import numpy as np
from tqdm import tqdm

from uctgan_jax import validation as held_out
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.data import pipeline, sources
from uctgan_jax.data.masks import MaskOptions, check_mask_options
from uctgan_jax.files import held_alone, make_writable, write_text
from uctgan_jax.growth import grow, grown_sizes, widened_prior
from uctgan_jax.metrics_log import MetricsLog
from uctgan_jax.nets import NARROW_CONDITION, build_networks
from uctgan_jax.optimizers import make_optimizers
from uctgan_jax.parallel import DataParallel
from uctgan_jax.phases import (
    Phase,
    batch_shapes,
    last_measured,
    make_step,
    phase_batches,
    phases_after,
)
from uctgan_jax.preemption import PreemptionNotice
from uctgan_jax.prior import whitening
from uctgan_jax.saved_models import read_model
from uctgan_jax.train_state import TrainState, create_train_state
from uctgan_jax.train_step import make_measure
from uctgan_jax.weights import check_generator, check_structure

PyTree = Any

# What may differ when a run goes on: none of it changes the numbers of a step, but that the first
# two say when the learning rates begin to fall and the prior is alone, and that the next four are
# what to try when steps are not finite.
RESUMABLE_FIELDS = frozenset(
    {
        "num_train_steps",
        "prior_steps",
        "optimizer.generator_learning_rate",
        "optimizer.prior_learning_rate",
        "optimizer.discriminator_learning_rate",
        "compute_dtype",
        "log_every_steps",
        "checkpoint_every_steps",
        "sample_every_steps",
        "parallel",
        "remat",
        "gradient_accumulation",
        "max_nonfinite_steps",
        "data.dir",
        "data.num_threads",
        "data.cache_gib",
        "data.max_corrupt",
        "model.guidance",
        "eval",
    }
)

# Parts that may stand still: what codes mean, and what is told of the known pixels.
FREEZABLE = ("projection", "encoder")


class NonFiniteError(RuntimeError):
    """Losses or gradients were not finite for too many steps in a row."""


class ConfigMismatchError(ValueError):
    """A workdir holds a run of another config, or of one that is not there to compare."""


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises a ValueError that names the first count or weight which makes no sense."""
    for name in (
        "num_train_steps",
        "log_every_steps",
        "checkpoint_every_steps",
        "sample_every_steps",
        "max_nonfinite_steps",
        "gradient_accumulation",
    ):
        if config[name] < 1:
            raise ValueError(f"{name} ({config[name]}) must be 1 or more")
    for name, weight in config.loss.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"loss.{name} ({weight}) must be 0 (off) or a positive number")
    if not any(config.loss.values()):
        raise ValueError("every weight in loss is 0: there is nothing to train")
    if config.prior_steps < config.num_train_steps and not any(
        weight for name, weight in config.loss.items() if name != "prior"
    ):
        raise ValueError(
            "every weight in loss but the prior's is 0: there is nothing to train before it is"
            f" alone, so prior_steps ({config.prior_steps}) must be num_train_steps"
            f" ({config.num_train_steps})"
        )
    if config.reconstruction_steps < 0:
        raise ValueError(f"reconstruction_steps ({config.reconstruction_steps}) must be 0 or more")
    if not 0 <= config.prior_steps <= config.num_train_steps:
        raise ValueError(
            f"prior_steps ({config.prior_steps}) must be from 0 to num_train_steps"
            f" ({config.num_train_steps}), of which they are the last"
        )
    if config.prior_steps and not config.loss.prior:
        raise ValueError(f"prior_steps ({config.prior_steps}) must be 0 when loss.prior is 0")
    if not 0 <= config.guide_steps <= config.prior_steps:
        raise ValueError(
            f"guide_steps ({config.guide_steps}) must be from 0 to prior_steps"
            f" ({config.prior_steps}), of which they are the first"
        )
    guided = config.prior_steps and config.model.guidance != 1
    learned = {phase.name for phase in phases_after(0, config)} & {"game", "guide"}
    if guided and not learned and not config.init_from:
        raise ValueError(
            f"guide_steps ({config.guide_steps}) must be 1 or more, or model.guidance"
            f" ({config.model.guidance}) be 1: there is no whole game before prior_steps"
            f" ({config.prior_steps}), so the prior as it was before them would be a guide that has"
            " learned nothing"
        )
    if config.prior_steps and config.prior_examples < config.prior_batch_size:
        raise ValueError(
            f"prior_examples ({config.prior_examples}) must be prior_batch_size"
            f" ({config.prior_batch_size}) or more"
        )
    if config.reconstruction_steps and not any(
        weight for name, weight in config.loss.items() if name.startswith("reconstruction")
    ):
        raise ValueError(
            f"reconstruction_steps ({config.reconstruction_steps}) must be 0 when"
            " loss.reconstruction, loss.reconstruction_hole and loss.reconstruction_square are 0"
        )
    for name in ("generator_learning_rate", "prior_learning_rate", "discriminator_learning_rate"):
        if not 0 <= config.optimizer[name] < float("inf"):
            raise ValueError(
                f"optimizer.{name} ({config.optimizer[name]}) must be 0 or more, and finite"
            )
    for name in ("beta1", "beta2"):
        if not 0 <= config.optimizer[name] < 1:
            raise ValueError(f"optimizer.{name} ({config.optimizer[name]}) must be in [0, 1)")
    for name in ("num_threads", "max_corrupt"):
        if config.data[name] < 0:
            raise ValueError(f"data.{name} ({config.data[name]}) must be 0 or more")
    if not 0 <= config.seed < 2**32:
        raise ValueError(f"seed ({config.seed}) must be from 0 to {2**32 - 1}")
    if not 0 <= config.data.cache_gib < float("inf"):
        raise ValueError(f"data.cache_gib ({config.data.cache_gib}) must be 0 (off) or positive")
    if not 0 <= config.optimizer.decay_share <= 1:
        raise ValueError(
            f"optimizer.decay_share ({config.optimizer.decay_share}) must be in [0, 1]"
        )
    for name in config.frozen:
        if name not in FREEZABLE:
            raise ValueError(f"frozen ({name!r}) must name some of {', '.join(FREEZABLE)}")
        if not config.init_from:
            raise ValueError(f"frozen ({name!r}) needs init_from: it would never learn anything")
    if not 0 <= config.ema_decay < 1:
        raise ValueError(f"ema_decay ({config.ema_decay}) must be in [0, 1)")


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> TrainState:
    """Trains, from the beginning or from the newest checkpoint in `workdir`.

    Leaves `checkpoints/`, `samples/`, `metrics.jsonl`, `config.json`, `parameters.txt` and
    TensorBoard event files in `workdir`. SIGTERM saves a checkpoint and ends the training in good
    order.

    Args:
        config: see `configs/default.py`.
        workdir: the folder of the run, made if need be.

    Returns:
        The last state, as numpy arrays.

    Raises:
        ValueError: if the config is unusable, or another run goes on in `workdir`, before anything
            is compiled.
        ConfigMismatchError: if `workdir` holds a run of another config, or checkpoints without one.
        FileNotFoundError: if there is no model `config.init_from`.
        OtherNetworksError: if it, or the run in `workdir`, is of another version of this code.
        OSError: if `workdir` cannot be written.
        NonFiniteError: after `config.max_nonfinite_steps` non-finite steps in a row.
    """
    workdir = Path(workdir).expanduser()
    check_config(config)
    parallel = DataParallel(config.parallel)
    parallel.check_batch_size(config.batch_size, num_parts=config.gradient_accumulation)
    if config.prior_steps:
        parallel.check_batch_size(config.prior_batch_size, name="prior_batch_size")
    networks = build_networks(
        image_size=config.image_size,
        compute_dtype=config.compute_dtype,
        remat=config.remat,
        **config.model,
    )
    optimizers = make_optimizers(
        **config.optimizer,
        num_steps=config.num_train_steps,
        reconstruction_steps=config.reconstruction_steps,
        prior_steps=config.prior_steps,
    )
    masks = MaskOptions(**config.mask)
    check_mask_options(masks, image_size=config.image_size)
    _check_workdir(workdir, config)
    initial = _initial_model(config, workdir)
    source, held_out_source = (
        sources.open_source(
            config.data.source,
            split=split,
            image_size=config.image_size,
            data_dir=config.data.dir,
            avatars_examples=tuple(config.data.avatars_examples),
            max_corrupt=config.data.max_corrupt,
        )
        for split in ("train", "validation")
    )
    (held_out_batch,) = pipeline.eval_batches(
        held_out_source,
        batch_size=held_out.NUM_PICTURES,
        num_examples=held_out.NUM_PICTURES,
        image_size=config.image_size,
        masks=masks,
        seed=config.seed,
    )

    # Told to stop while the last checkpoint is written, it is written all the same.
    with (
        _alone_in(workdir),
        PreemptionNotice() as preemption,
        Checkpoints(workdir / "checkpoints") as checkpoints,
    ):
        if jax.process_index() == 0:
            write_text(workdir / "config.json", json.dumps(config_dict(config), indent=2) + "\n")
        create = functools.partial(
            create_train_state,
            networks=networks,
            optimizers=optimizers,
            frozen=config.frozen,
        )
        state = _restore_or_create(checkpoints, jax.random.key(config.seed), create, initial)
        first_step = int(state.step)
        _say(f"{'resuming' if first_step else 'starting'} from step {first_step} in {workdir}")
        if jax.process_index() == 0:
            write_text(workdir / "parameters.txt", _parameter_table(state))
        fresh_prior = jax.jit(lambda key: networks.init_generator(key)["prior"])
        phases = phases_after(first_step, config)
        shapes = [batch_shapes(phase, networks, state.ema_params) for phase in phases]
        state = parallel.replicate(state)
        with (
            held_out.HeldOut(networks, held_out_batch, workdir / "samples") as samples,
            MetricsLog(workdir, first_step=first_step, fetch=parallel.fetch) as log,
            _progress_bar(first_step, config.num_train_steps) as progress,
        ):

            def batches_from(phase: Phase, step: int) -> Iterator[dict[str, jax.Array]]:
                # Of E1 and E2 as they are when pictures are completed.
                return phase_batches(
                    phase,
                    step,
                    state.ema_params,
                    config=config,
                    source=source,
                    networks=networks,
                    parallel=parallel,
                )

            def begun(phase: Phase) -> TrainState:
                """The state that the phase begins with, after its `start` steps."""
                if not phase.encoded:
                    return state
                # Momentum is of the parameters that the phase before ended with.
                optimizer = whitening.restarted(parallel.fetch(state.prior_opt_state))
                if phase.name == "guide":
                    prior = fresh_prior(jax.random.key(config.seed))
                else:
                    prior = parallel.fetch(state.ema_params["prior"])
                return state.replace(
                    prior_params=parallel.replicate(prior),
                    prior_opt_state=parallel.replicate(optimizer),
                )

            if phases:
                batches = batches_from(phases[0], first_step)
                # An iterator lets go of what it gave: a list would keep the batch on the devices.
                batches = itertools.chain(iter([next(batches)]), batches)
                options = dict(
                    networks=networks, optimizers=optimizers, axis_name=parallel.axis_name
                )
                steps = [make_step(phase, config, **options) for phase in phases]
                measured = last_measured(phases[-1], shapes[-1])
                if first_step < measured:
                    steps.append(make_measure(parallel.axis_name))
                    shapes.append(shapes[-1])
                steps = parallel.compile_ahead(list(map(parallel.compile, steps)), state, shapes)
                measure = steps.pop() if first_step < measured else None
                batches = log.timed(batches)
                if first_step == phases[0].start:
                    state = begun(phases[0])
                log.start_clock()
            for step in range(first_step + 1, config.num_train_steps + 1):
                if step > phases[0].end:
                    ended = phases.pop(0)
                    del steps[0]
                    if phases[0].stream_start != ended.stream_start:
                        batches = log.timed(batches_from(phases[0], phases[0].start))
                    state = begun(phases[0])
                batch = next(batches)
                if phases[0].encoded and step <= measured:
                    state, _ = measure(state, batch)
                state, metrics = steps[0](state, batch)
                log.add(metrics, phases[0].batch_size)
                progress.update()
                preempted = preemption.received(step)
                ends = preempted or step == config.num_train_steps
                logs, draws, saves = (
                    ends or step % every == 0
                    for every in (
                        config.log_every_steps,
                        config.sample_every_steps,
                        config.checkpoint_every_steps,
                    )
                )
                if draws or saves:
                    host_state = parallel.fetch(state)
                figures = {}
                if (draws or saves) and not preempted:  # There may be seconds left to save in.
                    with log.paused():
                        figures = samples.visit(host_state, draw=draws)
                    for name, figure in figures.items():
                        log.note(f"held_out/{name}", figure)
                if logs:
                    record = log.write(step)
                    progress.set_postfix_str(_postfix(record), refresh=False)
                    _stop_if_not_finite(state, record, parallel, config.max_nonfinite_steps)
                # Not what may have to be gone back behind.
                if ends or (saves and not host_state.nonfinite_steps):
                    alone = phases[0].prior_alone
                    error = figures.get("prior" if alone else "reconstruction_hole", np.inf)
                    checkpoints.save(host_state, config_dict(config), error, stage=int(alone))
                if preempted:
                    _say(f"told to stop: saving step {step}, ending")
                    break
            else:
                _say(f"all {config.num_train_steps} steps are done")
    return parallel.fetch(state)


def _alone_in(workdir: Path) -> contextlib.AbstractContextManager[None]:
    """Keeps a second run out of the folder: the two would delete and overwrite each other's files.

    The first process does so for all.
    """
    if jax.process_index() > 0:
        return contextlib.nullcontext()
    busy = f"another run is going on in {workdir}: wait for its end, or choose another workdir"
    return held_alone(workdir / "lock", busy=busy)


def _say(message: str) -> None:
    """Prints, once for all processes."""
    if jax.process_index() == 0:
        print(message, flush=True)


def _initial_model(
    config: ml_collections.ConfigDict, workdir: Path
) -> Callable[[PyTree], PyTree] | None:
    """What makes the parameters of `config.init_from` of fresh ones, grown if need be.

    None without it, or when the run has begun. The prior may be wider than the model's.
    """
    if not config.init_from or _saved_steps(workdir):
        return None
    params, saved_config, _, _ = read_model(config.init_from)
    there, here = (
        {name: sizes[name] for name in ("image_size", "model")}
        for sizes in (saved_config, config_dict(config))
    )
    width = "prior_condition_width"
    for sizes in (there, here):
        sizes["model"] = {width: NARROW_CONDITION} | sizes["model"]
    growing = 2 * there["image_size"] == here["image_size"]
    wanted = grown_sizes(there, here["model"]["generator_widths"]) if growing else there
    widest = max(sizes["model"][width] for sizes in (there, here))
    wanted = wanted | {"model": wanted["model"] | {width: widest}}
    differences = _refused_differences(wanted, here)
    if differences:
        listed = "; ".join(
            f"{name}: {value!r} {'grown' if growing else 'there'}, {now!r} here"
            for name, (value, now) in differences.items()
        )
        raise ValueError(f"init_from ({config.init_from}) is a model of other sizes ({listed})")
    source = "the model of init_from"

    def begin(fresh: PyTree) -> PyTree:
        # A model may have been saved without its D.
        judge = {name: fresh[name] for name in ("discriminator", "spectral_norm")}
        parts = {name: value for name, value in (judge | params).items() if name in fresh}
        saved = build_networks(image_size=there["image_size"], **there["model"])
        check_generator(params, saved, source=source)
        parts["prior"] = widened_prior(parts["prior"], fresh["prior"])
        # The guide's further units would never learn to say anything.
        parts["guide"] = widened_prior(parts["guide"], jax.tree.map(np.zeros_like, fresh["guide"]))
        if growing:
            return grow(parts, fresh)
        check_structure(parts, fresh, source=source)
        return parts

    return begin


def _saved_steps(workdir: Path) -> list[int]:
    """The steps of the checkpoints that a run has finished writing."""
    folders = (workdir / "checkpoints").glob("*")
    return [int(folder.name) for folder in folders if folder.name.isdecimal()]


def _restore_or_create(
    checkpoints: Checkpoints,
    key: jax.Array,
    create: Callable[[jax.Array], TrainState],
    initial: Callable[[PyTree], PyTree] | None,
) -> TrainState:
    """The state of the newest sound checkpoint, or a fresh one, with the parameters `initial`."""
    state = checkpoints.restore_latest(jax.eval_shape(create, key))
    if state is not None:
        return state
    state = jax.jit(create)(key)
    if initial is None:
        return state
    judge = {"discriminator": state.discriminator_params, "spectral_norm": state.spectral_norm}
    parts = initial(state.ema_params | judge)
    return state.replace(
        ema_params={name: parts[name] for name in state.ema_params},
        prior_params=parts["prior"],
        generator_params={name: parts[name] for name in state.generator_params},
        discriminator_params=parts["discriminator"],
        spectral_norm=parts["spectral_norm"],
    )


def _progress_bar(first_step: int, num_train_steps: int) -> tqdm:
    return tqdm(
        total=num_train_steps,
        initial=first_step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 10,  # a log file is not to be flooded
        disable=jax.process_index() != 0,
    )


def config_dict(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """A config as JSON holds it: tuples become lists."""
    return json.loads(config.to_json())


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple]:
    """The fields, by dotted name, in which two configs (as JSON) differ: (old, new) values."""
    differences = {}
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            inner = config_differences(before, after)
            differences |= {f"{name}.{key}": values for key, values in inner.items()}
        elif before != after:
            differences[name] = (before, after)
    return differences


def _refused_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple]:
    """`config_differences` without those that a run may go on with.

    Nor is it a difference that an older version did not know what is off now.
    """
    return {
        name: (before, now)
        for name, (before, now) in config_differences(old, new).items()
        if name not in RESUMABLE_FIELDS
        and name.partition(".")[0] not in RESUMABLE_FIELDS
        and (before is not None or now)
    }


def _check_workdir(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder, tries it, and holds the config against that of an earlier run in it."""
    make_writable(workdir)
    path = workdir / "config.json"
    saved = _saved_steps(workdir)
    if not saved:  # nothing that could be lost
        return
    if not path.exists():
        raise ConfigMismatchError(
            f"{workdir} has checkpoints of steps {sorted(saved)}, but no config.json to tell what"
            " run they are of; put it back, or choose another workdir"
        )
    try:
        old = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigMismatchError(f"{path} is damaged: {error}") from error
    new = config_dict(config)
    listed = "; ".join(
        f"{name}: {before!r} there, {now!r} now"
        for name, (before, now) in _refused_differences(old, new).items()
    )
    if listed:
        raise ConfigMismatchError(
            f"{workdir} holds a run of another config ({listed}); choose another workdir"
        )
    began, begins = (c["num_train_steps"] - c["prior_steps"] for c in (old, new))
    if begins != began < max(saved):
        raise ConfigMismatchError(
            f"{workdir} holds a run whose prior has been alone since step {began}:"
            f" num_train_steps - prior_steps ({begins}) must stay {began}; to train the rest on,"
            f" begin another run with init_from={workdir}"
        )
    if begins != began and begins < max(saved):
        raise ConfigMismatchError(
            f"{workdir} holds a run that has gone on to step {max(saved)}: num_train_steps -"
            f" prior_steps ({begins}), from where the prior is alone, must be {max(saved)} or more"
        )


def _parameter_table(state: TrainState) -> str:
    """Every parameter of every player: name, shape and count."""
    players = {
        "generator": state.generator_params,
        "prior": state.prior_params,
        "discriminator": state.discriminator_params,
    }
    return clu.parameter_overview.get_parameter_overview(players, include_stats=False) + "\n"


def _postfix(record: Mapping[str, float]) -> str:
    player = "generator" if "loss/generator" in record else "prior"
    return (
        f"{record['images_per_sec']:.1f} pictures/s,"
        f" {player} {record[f'loss/{player}']:.3f},"
        f" data wait {record['data_wait_fraction']:.0%}"
    )


def _stop_if_not_finite(
    state: TrainState, record: Mapping[str, float], parallel: DataParallel, limit: int
) -> None:
    in_a_row = int(parallel.fetch(state.nonfinite_steps))
    if in_a_row < limit:
        return
    names = [name for name, value in record.items() if not np.isfinite(value)]
    raise NonFiniteError(
        f"step {record['step']}: the last {in_a_row} steps were not finite"
        f" ({', '.join(names) or 'gradients'}) and changed nothing. Look at the data, or try a"
        " lower learning rate (optimizer.*_learning_rate) or compute_dtype float32: started again"
        " with them, the run goes on from its last checkpoint, which was saved before"
    )
