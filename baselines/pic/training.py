"""Training of PIC, by the project's own loop: resumable, with the same logs and checkpoints."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from baselines.pic.config import get_config
from baselines.pic.losses import LossWeights
from baselines.pic.nets import Networks, build_networks
from baselines.pic.sampling import complete, reconstruct
from baselines.pic.train_step import Trainee, kl_terms, train_step
from uctgan_jax import training, validation
from uctgan_jax.config import check_fields, check_run_fields
from uctgan_jax.files import write_text
from uctgan_jax.fit import Hooks, fit
from uctgan_jax.optimizers import make_optimizers
from uctgan_jax.parallel import DataParallel
from uctgan_jax.preprocess import normalize
from uctgan_jax.run import open_run, prepare_workdir, say, say_if_done
from uctgan_jax.train_state import TrainState, create_train_state

PyTree = Any


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> TrainState:
    """Trains, from the beginning or from the newest checkpoint in `workdir`.

    Args:
        config: see `config.py`.
        workdir: the folder of the run, made if need be.

    Returns:
        The last state, as numpy arrays.

    Raises:
        ValueError, ConfigMismatchError, OtherNetworksError, OSError, NonFiniteError: as
            `uctgan_jax.training.train`.
    """
    workdir = Path(workdir)
    check_fields(config, get_config(), "baselines/pic/config.py")
    check_run_fields(config)
    parallel = DataParallel(config.parallel)
    parallel.check_batch_size(config.batch_size, num_parts=config.gradient_accumulation)
    trainee = make_trainee(config, axis_name=parallel.axis_name)
    prepare_workdir(workdir, config)
    source, held_out = (training.open_split(config, split) for split in ("train", "validation"))
    held_out_batch = training.validation_batch(config, held_out)
    with open_run(workdir, config, parallel) as run:
        create = functools.partial(
            create_train_state, networks=trainee.networks, optimizers=trainee.optimizers
        )
        state = training.restore(run.checkpoints, create)
        if state is None:
            state = jax.jit(create)(jax.random.key(config.seed))
        first_step = int(state.step)
        say(f"{'resuming' if first_step else 'starting'} from step {first_step} in {workdir}")
        if jax.process_index() == 0:
            write_text(workdir / "parameters.txt", training.parameter_table(state))
        step = parallel.compile(functools.partial(train_step, trainee))
        evaluate = functools.partial(validation_outputs, trainee.networks)
        with validation.Validator(evaluate, held_out_batch, workdir / "samples") as validator:
            hooks = Hooks(
                validate=lambda state, draw: validator.validate(
                    state.ema_params, step=int(state.step), draw=draw
                ),
                save=functools.partial(training.save, run),
                shown="loss/generator",
            )
            state = fit(
                run,
                lambda number: step,
                parallel.replicate(state),
                training.train_batches(config, source, parallel, start_step=first_step),
                hooks,
                first_step=first_step,
            )
    state = parallel.fetch(state)
    say_if_done(config, int(state.step))
    return state


def make_trainee(config: ml_collections.ConfigDict, axis_name: str | None = None) -> Trainee:
    """What trains, as a config describes it; `axis_name` as for `Trainee`."""
    return Trainee(
        networks=make_networks(config),
        optimizers=make_optimizers(**config.optimizer, num_steps=config.num_train_steps),
        weights=LossWeights(**config.loss),
        seed=config.seed,
        ema_decay=config.ema_decay,
        num_parts=config.gradient_accumulation,
        axis_name=axis_name,
    )


def make_networks(config: ml_collections.ConfigDict) -> Networks:
    """The networks that a config describes."""
    return build_networks(
        image_size=config.image_size,
        compute_dtype=config.compute_dtype,
        remat=config.remat,
        **config.model,
    )


def validation_outputs(
    networks: Networks, params: PyTree, images: jax.Array, masks: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What PIC is judged by, as `uctgan_jax.validation.outputs`.

    The prior's loss is KL(q(z | I_c) || p(z | I_m)) in nats.
    """
    first = slice(validation.NUM_DRAWN)
    keys = jax.random.split(jax.random.key(0), len(images))[first]
    drawn = complete(networks, params, images[first], masks[first], keys, validation.NUM_SAMPLES)
    own = reconstruct(networks, params, images, masks)
    image = normalize(networks.to_patches(images))
    mask = networks.to_patches(masks).astype(jnp.float32)
    posterior = networks.infer_posterior(params, image, mask)
    prior = networks.infer_prior(params, networks.encode(params, image, mask))
    return drawn, own, kl_terms(posterior, prior, mask)["kl_generative"]
