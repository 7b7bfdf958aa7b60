"""One step of training, as a pure function of state and batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from uctgan_jax import losses
from uctgan_jax.nets import Networks, sample_code
from uctgan_jax.nets.blocks import each_color
from uctgan_jax.preprocess import composite, normalize
from uctgan_jax.prior import whitening
from uctgan_jax.prior.flow import flat
from uctgan_jax.train_state import Optimizers, TrainState, trained

Array = jax.Array
PyTree = Any
# Codes of each picture that the prior learns from, at as many times: beside the others, where a
# picture costs much, and alone, where more pictures teach more than more codes of each.
_DRAWS_BESIDE, _DRAWS_ALONE = 16, 4

TrainStep = Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """The weight of each term; 0 turns a term off, and its computation with it."""

    adversarial: float  # L_adv, both paths
    reconstruction: float  # L_rec over the whole picture
    reconstruction_hole: float  # L_rec over the hole alone
    reconstruction_square: float  # the same, squared
    known: float  # L_cc in image space
    manifold: float  # L_cc in manifold space
    kl: float  # L_KL on both codes
    prior: float  # flow matching to z_g; the prior's loss alone, so only 0 or not matters


def make_train_step(
    *,
    networks: Networks,
    optimizers: Optimizers,
    weights: LossWeights,
    seed: int,
    ema_decay: float,
    instance_path: bool,
    frozen: Sequence[str] = (),
    start_step: int = 0,
    num_parts: int = 1,
    axis_name: str | None = None,
) -> TrainStep:
    """Builds the training step of one device.

    The step draws all its noise from each example's own global index, so that it draws the same
    numbers on one device or on many, and a resumed run needs no saved key. All players move at
    once, from pictures that G makes once. One that no weight is left for stands still.

    Args:
      networks: E1, E2, the prior, G and D.
      optimizers: of each player.
      weights: of the loss terms.
      seed: seed of all noise.
      ema_decay: final decay of the parameter average; it ramps up as (1 + step) / (10 + step).
      instance_path: complete with the instance's code too, carried by the prior as for inference.
        Without it I_r alone is made and judged, and the terms of I_c are left out: a conditional
        VAE-GAN.
      frozen: those of "projection" (E1) and "encoder" (E2) that stand still; their terms are
        logged as ever.
      start_step: before the first of the prior's steps; its average ramps up from there.
      num_parts: of the batch, one after another: gradients are added up, and only a part's
        activations take memory. They are the gradients of the whole batch.
      axis_name: the mapped axis to average gradients over, None if the whole batch is here.

    Returns:
      `step(state, batch) -> (state, metrics)`, to be compiled. A batch has, as patches (see
      `nets.blocks`), `image` and `instance` uint8 [B, h, w, p*p*3] and `mask` uint8 [B, h, w, p*p]
      with 1 = hole; and `index` uint32 [B], the position of each example in the run's endless
      stream. Metrics are float32 scalars, one `loss/<term>` a term and the sums of E1, E2 and G
      (`loss/generator`) and of D (`loss/discriminator`); a step whose losses or gradients are not
      finite changes nothing but `step` and `nonfinite_steps`.
    """

    num_paths = 2 if instance_path else 1

    def project(params: PyTree, images: Array) -> tuple[Array, Array]:
        return networks.projection.apply({"params": params["projection"]}, images)

    def discriminate(params: PyTree, stats: PyTree, images: Array, masks: Array) -> Array:
        variables = {"params": params, "spectral_norm": stats}
        return networks.discriminator.apply(variables, images, masks)

    def encode(
        params: PyTree, batch: Mapping[str, Array], keys: Array
    ) -> tuple[Array, Array, Array, tuple[Array, ...]]:
        """E1's mean, log-variance and code of I_i (on its path) and I_g, and E2's condition."""
        views = jnp.concatenate([batch["instance"], batch["image"]][-num_paths:])
        mean, log_variance = project(params, views)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(
            jnp.concatenate([keys[:, 0], keys[:, 1]][-num_paths:])
        )
        code = sample_code(noise, mean, log_variance)
        condition = networks.encoder.apply(
            {"params": params["encoder"]}, batch["image"], batch["mask"]
        )
        return mean, log_variance, code, condition

    def carry(
        params: PyTree,
        state: TrainState,
        batch: Mapping[str, Array],
        code: Array,
        condition: PyTree,
    ) -> Array:
        """The instances' codes [B, Z] as the prior carries them to the condition, no gradients."""
        params, code, condition = jax.lax.stop_gradient((params, code, condition))
        prior = {"prior": state.ema_params["prior"]}
        surroundings = networks.encoder.apply(
            {"params": params["encoder"]}, batch["instance"], batch["mask"]
        )
        noise = networks.from_manifold(prior, code[:, None], surroundings)
        return networks.to_manifold(prior, noise, condition)[:, 0]

    def generator_loss(
        params: PyTree, state: TrainState, batch: Mapping[str, Array], keys: Array
    ) -> tuple[Array, tuple[dict[str, Array], Array, tuple[Array, Array], tuple[Array, ...]]]:
        """The generator's loss; also its terms, and what the others learn from.

        Those are the composites, for D, and how z_g is spread and the condition, for the prior.
        """
        params = state.generator_params | params
        target, mask = batch["image"], batch["mask"]
        hole = each_color(mask)
        size = target.shape[0]
        mean, log_variance, code, condition = encode(params, batch, keys)
        own = mean[-size:], log_variance[-size:]

        # I_c = G(z_c, E2(I_m)) and I_r = G(z_g, E2(I_m)): the condition is encoded once. z_c is z_i
        # as it will be when pictures are completed with it. E1 learns what codes mean from the
        # known pair alone; the instance path teaches G and E2 to follow any code. A gradient into
        # E1 from there lets it satisfy the manifold term by itself.
        if instance_path:
            code = jnp.concatenate(
                [carry(params, state, batch, code[:size], condition), code[size:]]
            )
        masks = jnp.concatenate([mask] * num_paths)
        outputs = networks.generator.apply(
            {"params": params["generator"]},
            code,
            [jnp.concatenate([features] * num_paths) for features in condition],
            masks,
        )
        completion, reconstruction = outputs[:size], outputs[-size:]
        fakes = composite(
            outputs, jnp.concatenate([target] * num_paths), jnp.concatenate([hole] * num_paths)
        )

        terms = {}
        if weights.reconstruction:
            terms["reconstruction"] = losses.reconstruction_l1(
                reconstruction=reconstruction, target=target
            )
        if weights.reconstruction_hole:
            terms["reconstruction_hole"] = losses.hole_l1(
                reconstruction=reconstruction, target=target, mask=hole
            )
        if weights.reconstruction_square:
            terms["reconstruction_square"] = losses.hole_square(
                reconstruction=reconstruction, target=target, mask=hole
            )
        if weights.known and instance_path:
            terms["known"] = losses.known_l1(completion=completion, target=target, mask=hole)
        if weights.manifold and instance_path:
            seen, _ = project(jax.lax.stop_gradient(params), fakes[:size])
            terms["manifold"] = losses.manifold_l1(code=seen, target_code=code[:size])
        if weights.kl:
            terms["kl"] = losses.kl_divergence(mean=mean, log_variance=log_variance)
        if weights.adversarial:
            fake_logits = discriminate(
                state.discriminator_params, state.spectral_norm, fakes, masks
            )
            terms["adversarial"] = losses.hinge_generator(fake_logits=fake_logits)
        total = sum(getattr(weights, name) * value for name, value in terms.items())
        return total, (terms, fakes, own, condition)

    def discriminator_loss(
        params: PyTree, state: TrainState, real: Array, fakes: Array, mask: Array
    ) -> tuple[Array, PyTree]:
        """D's loss, and its spectral-norm statistics after one more power iteration."""
        variables = {"params": params, "spectral_norm": state.spectral_norm}
        logits, updates = networks.discriminator.apply(
            variables,
            jnp.concatenate([real, fakes]),
            jnp.concatenate([mask] * (1 + num_paths)),
            update_stats=True,
            mutable=["spectral_norm"],
        )
        real_logits, fake_logits = logits[: real.shape[0]], logits[real.shape[0] :]
        loss = losses.hinge_discriminator(real_logits=real_logits, fake_logits=fake_logits)
        return loss, updates["spectral_norm"]

    def look(
        state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[dict[str, PyTree], dict[str, Array], dict[str, PyTree]]:
        """Gradients by player, metrics, and what else moves: D's spectral norms."""
        keys = _example_keys(seed, batch["index"])
        batch = {
            "image": normalize(batch["image"]),
            "instance": normalize(batch["instance"]),
            "mask": batch["mask"].astype(jnp.float32),
        }
        scalars, grads, moved = {}, {}, {}
        (scalars["loss/generator"], (terms, fakes, own, condition)), grads["generator"] = (
            jax.value_and_grad(generator_loss, has_aux=True)(
                trained(state.generator_params, frozen), state, batch, keys
            )
        )
        scalars |= {f"loss/{name}": value for name, value in terms.items()}
        if weights.prior:
            scalars["loss/prior"], grads["prior"] = jax.value_and_grad(prior_loss)(
                state.prior_params, networks, *own, condition, keys[:, 2], _DRAWS_BESIDE
            )
        if weights.adversarial:
            (scalars["loss/discriminator"], moved["spectral_norm"]), grads["discriminator"] = (
                jax.value_and_grad(discriminator_loss, has_aux=True)(
                    state.discriminator_params,
                    state,
                    batch["image"],
                    fakes,
                    batch["mask"],
                )
            )
        return grads, scalars, moved

    def step(state: TrainState, batch: Mapping[str, Array]) -> tuple[TrainState, dict[str, Array]]:
        grads, scalars, moved = _mean_of_parts(functools.partial(look, state), batch, num_parts)
        if axis_name is not None:
            grads, scalars = jax.lax.pmean((grads, scalars), axis_name)

        for player, gradients in grads.items():
            params = getattr(state, f"{player}_params")
            if player == "generator":
                params = trained(params, frozen)
            moved[f"{player}_params"], moved[f"{player}_opt_state"] = _update(
                getattr(optimizers, player),
                gradients,
                getattr(state, f"{player}_opt_state"),
                params,
                alone=False,
            )
        newest = moved["generator_params"]
        moved["generator_params"] = state.generator_params | newest
        if weights.prior:
            # The guide stays what the prior will be when it is left alone.
            newest = newest | dict.fromkeys(("prior", "guide"), moved["prior_params"])
        return _advance(state, moved, newest, grads, scalars, ema_decay, start_step)

    return step


def make_encoder(networks: Networks) -> Callable[[PyTree, Mapping[str, Array]], dict[str, Array]]:
    """Builds what gives the prior all that it learns from when it learns alone.

    Returns:
      `encode(params, batch) -> encoded`, to be compiled, for `params` with "projection" (E1) and
      "encoder" (E2) and a batch as `make_train_step` takes it, of which `instance` does not matter.
      `encoded` has `mean` and `log_variance` float32 [B, Z], of the pictures' own codes, and
      `condition` float16 [B, D], what the prior sees of E2's maps.
    """

    def encode(params: PyTree, batch: Mapping[str, Array]) -> dict[str, Array]:
        image, mask = normalize(batch["image"]), batch["mask"].astype(jnp.float32)
        mean, log_variance = networks.projection.apply({"params": params["projection"]}, image)
        condition = networks.encoder.apply({"params": params["encoder"]}, image, mask)
        return {
            "mean": mean,
            "log_variance": log_variance,
            "condition": flat(condition).astype(jnp.float16),
        }

    return encode


def make_prior_step(
    *,
    networks: Networks,
    optimizers: Optimizers,
    seed: int,
    ema_decay: float,
    learner: str = "prior",
    start_step: int = 0,
    axis_name: str | None = None,
) -> TrainStep:
    """Builds the step of the prior alone: E1 and E2 stand still, and are not even run.

    Args:
      networks, optimizers, seed, ema_decay, axis_name: as for `make_train_step`.
      learner: whose average follows `prior_params`: that of the "prior", or of its "guide", which
        learns as a prior does.
      start_step: before the first such step; the average ramps up from there.

    Returns:
      `step(state, batch) -> (state, metrics)`, as that of `make_train_step`, for a batch with what
      `make_encoder`'s gives and `index`.
    """

    def step(state: TrainState, batch: Mapping[str, Array]) -> tuple[TrainState, dict[str, Array]]:
        keys = _example_keys(seed, batch["index"])
        condition = batch["condition"].astype(jnp.float32)
        scalars, grads = {}, {}
        scalars["loss/prior"], grads["prior"] = jax.value_and_grad(prior_loss)(
            state.prior_params,
            networks,
            batch["mean"],
            batch["log_variance"],
            [condition],
            keys[:, 2],
            _DRAWS_ALONE,
        )
        if axis_name is not None:
            grads, scalars = jax.lax.pmean((grads, scalars), axis_name)
        moved = {}
        moved["prior_params"], moved["prior_opt_state"] = _update(
            optimizers.prior, grads["prior"], state.prior_opt_state, state.prior_params, alone=True
        )
        newest = {learner: moved["prior_params"]}
        return _advance(state, moved, newest, grads, scalars, ema_decay, start_step)

    return step


def make_measure(axis_name: str | None = None) -> TrainStep:
    """Builds what the first steps of the prior alone begin with: it measures what the prior sees.

    Args:
      axis_name: as for `make_train_step`.

    Returns:
      `measure(state, batch) -> (state, {})`, see `whitening.measure`, for the batch of the step.
    """

    def measure(
        state: TrainState, batch: Mapping[str, Array]
    ) -> tuple[TrainState, dict[str, Array]]:
        inputs = batch["condition"].astype(jnp.float32)
        measured = whitening.measure(state.prior_opt_state, inputs, axis_name)
        return state.replace(prior_opt_state=measured), {}

    return measure


def prior_loss(
    params: PyTree,
    networks: Networks,
    mean: Array,
    log_variance: Array,
    condition: Sequence[Array],
    keys: Array,
    num_draws: int,
) -> Array:
    """`losses.flow_matching` of `num_draws` codes of each picture, each somewhere on its way.

    Args:
      params: of the prior.
      networks: the prior, and how long codes are.
      mean, log_variance: of the pictures' own codes, [B, Z].
      condition: E2's maps, the coarsest last, or in their place what `flat` makes of them.
      keys: one of each picture, for all that is drawn, [B].
      num_draws: N; times are spread evenly over [0, 1).
    """
    shape = (2, num_draws, networks.code_dim)
    draws = jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
    noise, own_noise = draws[:, 0], draws[:, 1]
    shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), ()))(keys)
    time = (jnp.arange(num_draws) + shift[:, None]) / num_draws
    code = sample_code(own_noise, mean[:, None], log_variance[:, None])
    way = noise + time[..., None] * (code - noise)
    velocity = networks.velocity({"prior": params}, condition)(way, time)
    return losses.flow_matching(
        velocity=velocity, way=way, time=time, mean=mean, log_variance=log_variance
    )


def _advance(
    state: TrainState,
    moved: dict[str, PyTree],
    newest: Mapping[str, PyTree],
    grads: PyTree,
    scalars: Mapping[str, Array],
    ema_decay: float,
    prior_start_step: int,
) -> tuple[TrainState, dict[str, Array]]:
    """The next state and the metrics of the step; the state of before if that was not finite.

    Args:
      state: before.
      moved: its fields that the step changes, but for the average and the counts.
      newest: parameters for the average.
      grads: what moved them.
      scalars: the losses.
      ema_decay: final decay of the average.
      prior_start_step: that the averages of the prior and its guide ramp up from.
    """
    moved["ema_params"] = state.ema_params | {
        name: _moving_average(
            state.ema_params[name],
            params,
            state.step - (prior_start_step if name in ("prior", "guide") else 0),
            ema_decay,
        )
        for name, params in newest.items()
    }
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(norm + sum(scalars.values()))
    kept = {name: getattr(state, name) for name in moved}
    moved = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, kept)
    state = state.replace(
        step=state.step + 1,
        nonfinite_steps=jnp.where(finite, 0, state.nonfinite_steps + 1),
        **moved,
    )
    return state, {**scalars, "gradient_norm": norm, "nonfinite": 1.0 - finite}


def _mean_of_parts(
    function: Callable[[Mapping[str, Array]], PyTree], batch: Mapping[str, Array], num_parts: int
) -> PyTree:
    """The mean of what a function gives for equal parts of a batch, one after another."""
    if num_parts == 1:
        return function(batch)
    # Every so-many-th row is of a part: where the compiler splits a batch, all devices share it.
    parts = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, num_parts, *x.shape[1:]), 1, 0), batch
    )
    one = jax.eval_shape(function, jax.tree.map(lambda x: x[0], parts))
    total, _ = jax.lax.scan(
        lambda total, part: (jax.tree.map(jnp.add, total, function(part)), None),
        jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one),
        parts,
    )
    return jax.tree.map(lambda x: x / num_parts, total)


def _example_keys(seed: int, index: Array) -> Array:
    """Three keys of each example, [B, 3], from its place in the endless stream of examples."""
    base = jax.random.key(seed)
    return jax.vmap(lambda i: jax.random.split(jax.random.fold_in(base, i), 3))(index)


def _update(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    opt_state: optax.OptState,
    params: PyTree,
    *,
    alone: bool,
) -> tuple[PyTree, optax.OptState]:
    optimizer = optax.with_extra_args_support(optimizer)
    updates, opt_state = optimizer.update(grads, opt_state, params, alone=alone)  # see `whitened`
    return optax.apply_updates(params, updates), opt_state


def _moving_average(average: PyTree, params: PyTree, step: Array, decay: float) -> PyTree:
    """`average` moved towards `params`; the ramp keeps the initial noise out of short runs."""
    step = step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: p + decay * (a - p), average, params)
