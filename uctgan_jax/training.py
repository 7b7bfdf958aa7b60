"""Training of E1, E2, G and D: data in; steps, logs, samples and checkpoints out; resumable."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import clu.parameter_overview
import jax
import ml_collections
import numpy as np

from uctgan_jax import validation
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.config import check_config, config_dict, describe_differences, refused_differences
from uctgan_jax.data import pipeline, sources
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.files import typed_path, write_text
from uctgan_jax.fit import Hooks, fit
from uctgan_jax.growth import grow, grown_sizes
from uctgan_jax.losses import LossWeights
from uctgan_jax.nets import build_networks
from uctgan_jax.optimizers import make_optimizers
from uctgan_jax.parallel import DataParallel
from uctgan_jax.prior.normal import NormalPrior
from uctgan_jax.run import Run, open_run, prepare_workdir, say, say_if_done
from uctgan_jax.saved_models import build_model, check_params, read_model
from uctgan_jax.train_state import TrainState, create_train_state
from uctgan_jax.train_step import Trainee, train_step
from uctgan_jax.weights import check_structure

PyTree = Any
Initialize = Callable[[PyTree], PyTree]


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> TrainState:
    """Trains, from the beginning or from the newest checkpoint in `workdir`.

    Leaves `checkpoints/`, `samples/`, `metrics.jsonl`, `config.json`, `parameters.txt` and
    TensorBoard event files in `workdir`. SIGTERM and Ctrl-C save a checkpoint and end the training
    in good order.

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
    workdir = Path(workdir)
    check_config(config)
    parallel = DataParallel(config.parallel)
    parallel.check_batch_size(config.batch_size, num_parts=config.gradient_accumulation)
    trainee = make_trainee(config, axis_name=parallel.axis_name)
    resumes = prepare_workdir(workdir, config)
    initialize = None if resumes or not config.init_from else initial_model(config)
    source, held_out = (open_split(config, split) for split in ("train", "validation"))
    held_out_batch = validation_batch(config, held_out)
    with open_run(workdir, config, parallel) as run:
        create = functools.partial(
            create_train_state, networks=trainee.networks, optimizers=trainee.optimizers
        )
        state = restore(run.checkpoints, create)
        if state is None:
            state = begin(create, jax.random.key(config.seed), initialize)
        first_step = int(state.step)
        say(f"{len(source)} pictures to learn from, {len(held_out)} held out for validation")
        say(f"{'resuming' if first_step else 'starting'} from step {first_step} in {workdir}")
        if jax.process_index() == 0:
            write_text(workdir / "parameters.txt", parameter_table(state))
        state = parallel.replicate(state)
        batches = train_batches(config, source, parallel, start_step=first_step)
        step_at, batches = compile_stages(trainee, run, state, batches, first_step)
        evaluate = functools.partial(validation.outputs, trainee.networks, NormalPrior())
        with validation.Validator(evaluate, held_out_batch, workdir / "samples") as validator:
            hooks = Hooks(
                validate=lambda state, draw: validator.validate(
                    state.ema_params, step=int(state.step), draw=draw
                ),
                save=functools.partial(save, run),
                shown="loss/generator",
            )
            state = fit(run, step_at, state, batches, hooks, first_step=first_step)
    state = parallel.fetch(state)
    say_if_done(config, int(state.step))
    return state


def make_trainee(config: ml_collections.ConfigDict, axis_name: str | None = None) -> Trainee:
    """What trains, as a config describes it; `axis_name` as for `Trainee`."""
    return Trainee(
        networks=build_networks(
            image_size=config.image_size,
            compute_dtype=config.compute_dtype,
            remat=config.remat,
            **config.model,
        ),
        optimizers=make_optimizers(
            **config.optimizer,
            num_steps=config.num_train_steps,
            reconstruction_steps=config.reconstruction_steps,
        ),
        weights=LossWeights(**config.loss),
        seed=config.seed,
        ema_decay=config.ema_decay,
        instance_path=config.instance_path,
        colour_jitter=config.colour_jitter,
        augment=config.augment,
        num_parts=config.gradient_accumulation,
        axis_name=axis_name,
    )


def reconstruction_stage(trainee: Trainee) -> Trainee:
    """The same without the instance path and D: E1, E2 and G learn from I_r alone."""
    weights = dataclasses.replace(trainee.weights, adversarial=0.0)
    return dataclasses.replace(trainee, weights=weights, instance_path=False)


def compile_stages(
    trainee: Trainee,
    run: Run,
    state: PyTree,
    batches: Iterator[dict[str, jax.Array]],
    first_step: int,
) -> tuple[Callable[[int], Callable], Iterator[dict[str, jax.Array]]]:
    """Compiles the steps of the stages that are left, at once.

    Returns:
        The compiled step of each step number, and the batches, of which the first was read before
        anything was compiled: what is wrong with the data shows at once.
    """
    last = run.config.num_train_steps
    # A run may end within its reconstruction stage: then that is the only one.
    ends = {last: trainee}
    ends[min(run.config.reconstruction_steps, last)] = reconstruction_stage(trainee)
    ends = {end: stage for end, stage in ends.items() if first_step < end}
    if not ends:
        return lambda step: None, batches
    first = next(batches)
    # An iterator lets go of what it gave; a list would keep the batch on the devices.
    batches = itertools.chain(iter([first]), batches)
    steps = [run.parallel.compile(functools.partial(train_step, stage)) for stage in ends.values()]
    compiled = dict(zip(ends, run.parallel.compile_ahead(steps, state, first), strict=True))
    return lambda step: compiled[min(end for end in compiled if step <= end)], batches


def train_batches(
    config: ml_collections.ConfigDict,
    source: sources.Source,
    parallel: DataParallel,
    *,
    start_step: int = 0,
) -> Iterator[dict[str, jax.Array]]:
    """The endless batches of a run after `start_step`, as patches, on the devices."""
    batches = pipeline.train_batches(
        source,
        batch_size=config.batch_size,
        start_step=start_step,
        image_size=config.image_size,
        masks=MaskOptions(**config.mask),
        seed=config.seed,
        flip=config.data.flip,
        zoom=config.data.zoom,
        patch_size=config.model.patch_size,
        num_threads=config.data.num_threads,
        cache_bytes=round(config.data.cache_gib * 2**30),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    return parallel.prefetch(device_types(batches))


def device_types(batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Batches with the 32-bit indices that devices and key folding take."""
    for batch in batches:
        yield {**batch, "index": batch["index"].astype(np.uint32)}


def open_split(config: ml_collections.ConfigDict, split: str) -> sources.Source:
    """The "train", "validation" or "test" pictures of a config's source."""
    return sources.open_source(
        config.data.source,
        split=split,
        image_size=config.image_size,
        data_dir=config.data.dir,
        avatars_examples=tuple(config.data.avatars_examples),
        max_corrupt=config.data.max_corrupt,
    )


def validation_batch(
    config: ml_collections.ConfigDict, source: sources.Source
) -> dict[str, np.ndarray]:
    """The pictures and holes that training is validated on, see `validation.Validator`."""
    (batch,) = pipeline.eval_batches(
        source,
        batch_size=validation.NUM_PICTURES,
        num_examples=validation.NUM_PICTURES,
        image_size=config.image_size,
        masks=MaskOptions(**config.mask),
        seed=config.seed,
    )
    return batch


def save(run: Run, state: TrainState, figures: dict[str, float]) -> None:
    """Starts saving a checkpoint of a state on the host."""
    error = figures.get("reconstruction_hole", np.inf)
    config = config_dict(run.config)
    run.checkpoints.save(int(state.step), state.model, _rest(state), config, error)


def restore(
    checkpoints: Checkpoints, create: Callable[[jax.Array], TrainState]
) -> TrainState | None:
    """The state of the newest sound checkpoint, None if there is none."""
    template = jax.eval_shape(create, jax.random.key(0))
    saved = checkpoints.restore_latest(template.model, _rest(template))
    if saved is None:
        return None
    ema_params, rest = saved
    discriminator_params = ema_params.pop("discriminator")
    return TrainState(ema_params=ema_params, discriminator_params=discriminator_params, **rest)


def _rest(state: TrainState) -> dict[str, PyTree]:
    """What a checkpoint keeps of a state besides its `model`."""
    in_model = ("ema_params", "discriminator_params")
    return {name: value for name, value in vars(state).items() if name not in in_model}


def begin(
    create: Callable[[jax.Array], TrainState], key: jax.Array, initialize: Initialize | None
) -> TrainState:
    """A fresh state, with the parameters that `initialize` makes of fresh ones, if given."""
    state = jax.jit(create)(key)
    if initialize is None:
        return state
    params = initialize(state.generator_params | {"discriminator": state.discriminator_params})
    discriminator_params = params.pop("discriminator")
    return state.replace(
        generator_params=params,
        ema_params=params,
        discriminator_params=discriminator_params,
    )


def initial_model(config: ml_collections.ConfigDict) -> Initialize:
    """What makes the parameters of `config.init_from` of fresh ones, grown if need be.

    Raises:
        ValueError: if it is a model of other sizes.
    """
    saved, saved_config, _, _ = read_model(typed_path(config.init_from))
    there, here = (
        {name: sizes[name] for name in ("image_size", "model")}
        for sizes in (saved_config, config_dict(config))
    )
    grows = 2 * there["image_size"] == here["image_size"]
    wanted = grown_sizes(there, here["model"]["generator_widths"]) if grows else there
    differences = refused_differences(wanted, here)
    if differences:
        listed = describe_differences(differences, "grown" if grows else "there", "here")
        raise ValueError(f"init_from ({config.init_from}) is a model of other sizes ({listed})")
    networks, prior = build_model(saved_config, source=config.init_from)
    check_params(saved, networks, prior, source=config.init_from)

    def initialize(fresh: PyTree) -> PyTree:
        # A model may have been saved without its D.
        params = {name: saved.get(name, fresh[name]) for name in fresh}
        if grows:
            return grow(params, fresh, patch_size=there["model"]["patch_size"])
        check_structure(params, fresh, source=config.init_from)
        return params

    return initialize


def parameter_table(state: TrainState) -> str:
    """Every parameter of every network: name, shape and count."""
    networks = state.generator_params | {"discriminator": state.discriminator_params}
    return clu.parameter_overview.get_parameter_overview(networks, include_stats=False) + "\n"
