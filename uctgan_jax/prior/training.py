"""Training of a learned prior on the cached latents of a finished model; resumable."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax

from uctgan_jax import training, validation
from uctgan_jax.config import check_fields, check_run_fields, config_dict
from uctgan_jax.configs import prior as prior_config
from uctgan_jax.fit import Hooks, fit
from uctgan_jax.nets import Networks
from uctgan_jax.optimizers import falling_rate, make_optimizer
from uctgan_jax.parallel import DataParallel
from uctgan_jax.prior import Prior, build_prior, summarize
from uctgan_jax.prior.flow import CONDITION_LAYER
from uctgan_jax.prior.latents import cache_latents, gather_conditions, latent_batches
from uctgan_jax.prior.whitening import measure, whitened
from uctgan_jax.run import Run, open_run, prepare_workdir, say, say_if_done
from uctgan_jax.saved_models import build_model, check_params, read_model
from uctgan_jax.train_step import example_keys, guarded_update, mean_over_batch, moving_average

Array = jax.Array
PyTree = Any

_INPUTS_PER_DIMENSION = 8  # that whitening is measured on


@flax.struct.dataclass
class PriorState:
    """The state of a prior's training: with config and model, it decides every later step."""

    step: Array  # int32 []: steps taken
    params: PyTree
    opt_state: optax.OptState
    ema_params: PyTree  # moving average of `params`: completion uses these
    nonfinite_steps: Array  # int32 []: steps in a row that were skipped as non-finite


@dataclasses.dataclass(frozen=True)
class PriorTrainee:
    """All of a training step of the prior that is neither state nor data; see `Trainee`."""

    prior: Prior
    optimizer: optax.GradientTransformation
    seed: int
    ema_decay: float
    num_parts: int = 1
    axis_name: str | None = None


def prior_step(
    trainee: PriorTrainee, state: PriorState, batch: Mapping[str, Array]
) -> tuple[PriorState, dict[str, Array]]:
    """One step on a batch of `latents.latent_batches`; E1 and E2 are not run.

    Returns:
      The state after the step, and `loss/prior`, `gradient_norm` and `nonfinite`. A step that is
      not finite changes nothing but `step` and `nonfinite_steps`.
    """

    def gradients(batch: Mapping[str, Array]) -> tuple[PyTree, dict[str, Array]]:
        (keys,) = example_keys(trainee.seed, batch["index"], 1)
        condition = batch["condition"].astype(jnp.float32)
        loss, grads = jax.value_and_grad(trainee.prior.loss)(
            state.params, batch["mean"], batch["log_variance"], condition, keys
        )
        return grads, {"loss/prior": loss}

    grads, metrics = mean_over_batch(
        gradients, batch, num_parts=trainee.num_parts, axis_name=trainee.axis_name
    )
    steps, opt_state = trainee.optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, steps)
    ema_params = moving_average(state.ema_params, params, state.step, trainee.ema_decay)
    updates = {"params": params, "opt_state": opt_state, "ema_params": ema_params}
    return guarded_update(state, updates, grads, metrics)


def train_prior(
    config: ml_collections.ConfigDict, model: str | Path, workdir: str | Path
) -> PriorState:
    """Trains a prior for a model, from the beginning or from the newest checkpoint in `workdir`.

    Leaves in `workdir` what `training.train` does; its checkpoints hold the whole model, the prior
    included, and `Inpainter.load` opens them.

    Args:
        config: see `configs/prior.py`.
        model: a finished model, as for `Inpainter.load`. A prior that it has already is replaced.
        workdir: the folder of the run, made if need be; not that of the model.

    Returns:
        The last state, as numpy arrays.

    Raises:
        ValueError, ConfigMismatchError, FileNotFoundError, OtherNetworksError, OSError,
        NonFiniteError: as `training.train`.
    """
    workdir = Path(workdir)
    check_fields(config, prior_config.get_config(), "configs/prior.py")
    check_run_fields(config)
    if config.num_examples < config.batch_size:
        raise ValueError(
            f"num_examples ({config.num_examples}) must be batch_size ({config.batch_size}) or more"
        )
    parallel = DataParallel(config.parallel)
    parallel.check_batch_size(config.batch_size, num_parts=config.gradient_accumulation)
    params, model_config, _, digest = read_model(model)
    networks, old_prior = build_model(model_config, source=str(model))
    check_params(params, networks, old_prior, source=str(model))
    params.pop("prior", None)
    config = model_with_prior(config, model_config, digest)
    prior = build_prior(
        config.prior.to_dict(), code_dim=networks.code_dim, compute_dtype=config.compute_dtype
    )
    prepare_workdir(workdir, config)
    source, held_out = (training.open_split(config, split) for split in ("train", "validation"))
    held_out_batch = training.validation_batch(config, held_out)
    with open_run(workdir, config, parallel) as run:
        # Codes are those of the averaged E1 and E2, because completion uses these.
        pictures = training.train_batches(config, source, parallel)
        num_batches = config.num_examples // config.batch_size
        latents = cache_latents(networks, params, pictures, parallel, num_batches)
        trainee = make_trainee(config, prior, latents, axis_name=parallel.axis_name)
        state = restore_or_create(run, trainee, networks, params)
        first_step = int(state.step)
        say(f"{'resuming' if first_step else 'starting'} from step {first_step} in {workdir}")
        batches = latent_batches(
            latents,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=first_step,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        step = parallel.compile(functools.partial(prior_step, trainee))
        evaluate = functools.partial(validation.outputs, networks, prior)
        with validation.Validator(evaluate, held_out_batch, workdir / "samples") as validator:
            hooks = Hooks(
                validate=lambda state, draw: validator.validate(
                    params | {"prior": state.ema_params}, step=int(state.step), draw=draw
                ),
                save=functools.partial(save, run, params),
                shown="loss/prior",
            )
            state = fit(
                run,
                lambda number: step,
                parallel.replicate(state),
                parallel.prefetch(batches),
                hooks,
                first_step=first_step,
            )
    state = parallel.fetch(state)
    say_if_done(config, int(state.step))
    return state


def model_with_prior(
    config: ml_collections.ConfigDict, model_config: Mapping[str, Any], digest: str
) -> ml_collections.ConfigDict:
    """The config of a prior's run: the model's, with the prior and its training.

    So checkpoints say all that inference needs to know, and resuming is refused with another model.
    """
    whole = ml_collections.ConfigDict(dict(model_config))
    del whole.optimizer
    for name, value in config.items():
        if name not in ("data", "mask_kind"):
            whole[name] = value
    whole.model_digest = digest
    for name, value in config.data.items():
        if name != "source" or value:
            whole.data[name] = value
    whole.mask.kind = config.mask_kind or whole.mask.kind
    return whole


def make_trainee(
    config: ml_collections.ConfigDict,
    prior: Prior,
    latents: Mapping[str, np.ndarray],
    axis_name: str | None = None,
) -> PriorTrainee:
    """What trains, as a config describes it; the optimiser is preconditioned for these latents."""
    options = config.optimizer
    decay_steps = round(options.decay_share * config.num_train_steps)
    rate = falling_rate(options.learning_rate, config.num_train_steps, decay_steps)
    optimizer = make_optimizer(options.name, rate, beta1=options.beta1, beta2=options.beta2)
    if config.whitening:
        most = _INPUTS_PER_DIMENSION * latents["condition"].shape[-1]
        center, frame = measure(gather_conditions(latents, config.batch_size, most))
        optimizer = whitened(optimizer, layer=CONDITION_LAYER, center=center, frame=frame)
    return PriorTrainee(
        prior=prior,
        optimizer=optimizer,
        seed=config.seed,
        ema_decay=config.ema_decay,
        num_parts=config.gradient_accumulation,
        axis_name=axis_name,
    )


def restore_or_create(
    run: Run, trainee: PriorTrainee, networks: Networks, model: PyTree
) -> PriorState:
    """The state of the newest sound checkpoint, or a fresh one."""

    def create(key: Array) -> PriorState:
        condition = summarize(networks.encode(model, *networks.example()))
        params = trainee.prior.init(key, condition)
        return PriorState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            opt_state=trainee.optimizer.init(params),
            ema_params=jax.tree.map(jnp.copy, params),
            nonfinite_steps=jnp.zeros((), jnp.int32),
        )

    key = jax.random.key(run.config.seed)
    template = jax.eval_shape(create, key)
    saved = run.checkpoints.restore_latest(
        jax.tree.map(np.asarray, model) | {"prior": template.ema_params}, _rest(template)
    )
    if saved is None:
        return jax.jit(create)(key)
    whole, rest = saved
    return PriorState(ema_params=whole["prior"], **rest)


def save(run: Run, model: PyTree, state: PriorState, figures: Mapping[str, float]) -> None:
    """Starts saving a checkpoint: the whole model, and the state of the prior's training."""
    whole = jax.tree.map(np.asarray, model) | {"prior": state.ema_params}
    error = figures.get("prior", np.inf)
    run.checkpoints.save(int(state.step), whole, _rest(state), config_dict(run.config), error)


def _rest(state: PriorState) -> dict[str, PyTree]:
    """What a checkpoint keeps of a state besides the prior's average."""
    return {name: value for name, value in vars(state).items() if name != "ema_params"}
