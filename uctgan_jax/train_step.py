"""One step of training, as a pure function of state and batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from uctgan_jax import losses
from uctgan_jax.nets import Networks, sample_code
from uctgan_jax.nets.blocks import each_color
from uctgan_jax.train_state import Optimizers, TrainState

Array = jax.Array
PyTree = Any
_PRIOR_DRAWS = 8  # of noise and time, for each code that the prior learns from

TrainStep = Callable[[TrainState, Mapping[str, Array]], tuple[TrainState, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """The weight of each term; 0 turns a term off, and its computation with it."""

    adversarial: float  # L_adv, both paths
    reconstruction: float  # L_rec over the whole picture
    reconstruction_hole: float  # L_rec over the hole alone
    known: float  # L_cc in image space
    manifold: float  # L_cc in manifold space
    kl: float  # L_KL on both codes
    prior: float  # flow matching of the conditional prior to z_g


def normalize(images: Array) -> Array:
    """uint8 [0, 255] to float32 [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def composite(output: Array, target: Array, mask: Array) -> Array:
    """The generator's pixels in the hole, the picture's own elsewhere."""
    return jnp.where(mask > 0.5, output, target)


def jitter_colors(key: Array, images: Array, strength: float | Array) -> Array:
    """A random gain and offset a channel and picture, clipped to [-1, 1].

    What E1 sees is jittered and what G must return is not, so that colours cannot come from the
    code and must come from the condition: without it, completions keep the instance's colours.

    Args:
      key: one key a picture, [B].
      images: patches, [B, h, w, pixels * 3] in [-1, 1].
      strength: gains lie in 1 +- strength, offsets in +- strength; a number, or [B, 1, 1, 1].
    """
    draw = jax.vmap(lambda k: jax.random.uniform(k, (2, 1, 1, 3), minval=-1.0, maxval=1.0))(key)
    draw = jnp.tile(draw, images.shape[-1] // 3)
    gain, offset = 1.0 + strength * draw[:, 0], strength * draw[:, 1]
    return jnp.clip(images * gain + offset, -1.0, 1.0)


def tint(key: Array, images: Array, strength: float) -> Array:
    """`jitter_colors` by up to `strength`, as much as each picture draws: many hardly at all.

    It is for the picture to complete, not for what E1 sees of it: the code then says nothing sure
    about a colour of which there is something to see.
    """
    keys = jax.vmap(lambda k: jax.random.split(k))(key)
    share = jax.vmap(lambda k: jax.random.uniform(k, (1, 1, 1)))(keys[:, 0])
    return jitter_colors(keys[:, 1], images, strength * share)


def make_train_step(
    *,
    networks: Networks,
    optimizers: Optimizers,
    weights: LossWeights,
    seed: int,
    color_jitter: float,
    tint_strength: float,
    ema_decay: float,
    instance_path: bool,
    axis_name: str | None = None,
) -> TrainStep:
    """Builds the training step of one device.

    The step draws all its noise from each example's own global index, so that it draws the same
    numbers on one device or on many, and a resumed run needs no saved key. Both players move at
    once, from one forward pass of each network.

    Args:
      networks: E1, E2, the prior, G and D.
      optimizers: of the generator side (E1, E2, the prior, G) and of D.
      weights: of the loss terms.
      seed: seed of all noise.
      color_jitter: strength of `jitter_colors` on what E1 sees of I_i and I_g; 0 for none.
      tint_strength: strength of `tint` on I_g as everything else sees it; 0 for none.
      ema_decay: final decay of the parameter average; it ramps up as (1 + step) / (10 + step).
      instance_path: complete with the instance's code too. Without it I_r alone is made and
        judged, and the terms of I_c are left out: a conditional VAE-GAN.
      axis_name: the mapped axis to average gradients over, None if the whole batch is here.

    Returns:
      `step(state, batch) -> (state, metrics)`, to be compiled. A batch has `image` and `instance`
      uint8 [B, H, W, 3], `mask` uint8 [B, H, W, 1] with 1 = hole and `index` uint32 [B], the
      position of each example in the run's endless stream. Metrics are float32 scalars, one
      `loss/<term>` a term; a step whose losses or gradients are not finite changes nothing but
      `step` and `nonfinite_steps`.
    """

    num_paths = 2 if instance_path else 1

    def project(params: PyTree, images: Array) -> tuple[Array, Array]:
        return networks.projection.apply({"params": params["projection"]}, images)

    def discriminate(params: PyTree, stats: PyTree, images: Array, masks: Array) -> Array:
        variables = {"params": params, "spectral_norm": stats}
        return networks.discriminator.apply(variables, images, masks)

    def prior_loss(params: PyTree, code: Array, condition: Sequence[Array], keys: Array) -> Array:
        """Of several points on the way to each code; nothing but the prior learns from it."""
        code, condition = jax.lax.stop_gradient((code, condition))
        draw = jax.vmap(lambda key: jax.random.normal(key, (_PRIOR_DRAWS, code.shape[-1])))
        shift = jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, 1), ()))(keys)
        noise = draw(keys)
        time = (jnp.arange(_PRIOR_DRAWS) + shift[:, None]) / _PRIOR_DRAWS
        code = jnp.broadcast_to(code[:, None], noise.shape)
        way = noise + time[..., None] * (code - noise)
        velocity = networks.velocity(params, condition)(way, time)
        return losses.flow_matching(velocity=velocity, noise=noise, code=code)

    def generator_loss(
        params: PyTree, state: TrainState, batch: Mapping[str, Array], target: Array, keys: Array
    ) -> tuple[Array, tuple[dict[str, Array], Array]]:
        """The generator side's loss; also its terms, and the composites D learns from."""
        mask = batch["mask"].astype(jnp.float32)
        hole = each_color(mask)
        size = target.shape[0]

        # z_i ~ E1(I_i) and z_g ~ E1(I_g), in one pass.
        views = jnp.concatenate([batch["instance"], batch["image"]][-num_paths:])
        views = normalize(views)
        if color_jitter:
            jitter_keys = jnp.concatenate([keys[:, 0], keys[:, 1]][-num_paths:])
            views = jitter_colors(jitter_keys, views, color_jitter)
        mean, log_variance = project(params, views)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(
            jnp.concatenate([keys[:, 2], keys[:, 3]][-num_paths:])
        )
        code = sample_code(noise, mean, log_variance)
        own_code = code[-size:]

        # I_c = G(z_i, E2(I_m)) and I_r = G(z_g, E2(I_m)): the condition is encoded once. E1 learns
        # what codes mean from the known pair alone; the instance path teaches G and E2 to follow
        # any code. A gradient into E1 from there lets it satisfy the manifold term by itself.
        if instance_path:
            code = jnp.concatenate([jax.lax.stop_gradient(code[:size]), own_code])
        condition = networks.encoder.apply({"params": params["encoder"]}, target, mask)
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
        if weights.known and instance_path:
            terms["known"] = losses.known_l1(completion=completion, target=target, mask=hole)
        if weights.manifold and instance_path:
            seen, _ = project(jax.lax.stop_gradient(params), fakes[:size])
            terms["manifold"] = losses.manifold_l1(code=seen, target_code=code[:size])
        if weights.kl:
            terms["kl"] = losses.kl_divergence(mean=mean, log_variance=log_variance)
        if weights.prior:
            terms["prior"] = prior_loss(params, own_code, condition, keys[:, 5])
        if weights.adversarial:
            fake_logits = discriminate(
                state.discriminator_params, state.spectral_norm, fakes, masks
            )
            terms["adversarial"] = losses.hinge_generator(fake_logits=fake_logits)
        total = sum(getattr(weights, name) * value for name, value in terms.items())
        return total, (terms, fakes)

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

    def step(state: TrainState, batch: Mapping[str, Array]) -> tuple[TrainState, dict[str, Array]]:
        # From here on pictures and masks are patches, see `nets.blocks`.
        batch = {
            name: x if name == "index" else networks.to_patches(x) for name, x in batch.items()
        }
        keys = jax.vmap(lambda index: jax.random.split(_example_key(seed, index), 6))(
            batch["index"]
        )
        target = normalize(batch["image"])
        if tint_strength:
            target = tint(keys[:, 4], target, tint_strength)
        (total, (terms, fakes)), generator_grads = jax.value_and_grad(generator_loss, has_aux=True)(
            state.generator_params, state, batch, target, keys
        )
        scalars = {f"loss/{name}": value for name, value in terms.items()}
        scalars["loss/generator"] = total
        grads = {"generator": generator_grads}
        spectral_norm = state.spectral_norm
        if weights.adversarial:
            (scalars["loss/discriminator"], spectral_norm), grads["discriminator"] = (
                jax.value_and_grad(discriminator_loss, has_aux=True)(
                    state.discriminator_params,
                    state,
                    target,
                    jax.lax.stop_gradient(fakes),
                    batch["mask"].astype(jnp.float32),
                )
            )
        if axis_name is not None:
            grads, scalars = jax.lax.pmean((grads, scalars), axis_name)

        generator_params, generator_opt_state = _update(
            optimizers.generator,
            grads["generator"],
            state.generator_opt_state,
            state.generator_params,
        )
        moved = {
            "generator_params": generator_params,
            "generator_opt_state": generator_opt_state,
            "ema_params": _moving_average(
                state.ema_params, generator_params, state.step, ema_decay
            ),
        }
        if weights.adversarial:
            discriminator_params, discriminator_opt_state = _update(
                optimizers.discriminator,
                grads["discriminator"],
                state.discriminator_opt_state,
                state.discriminator_params,
            )
            moved["discriminator_params"] = discriminator_params
            moved["discriminator_opt_state"] = discriminator_opt_state
            moved["spectral_norm"] = spectral_norm

        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm + sum(scalars.values()))
        kept = {name: getattr(state, name) for name in moved}
        moved = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, kept)
        state = state.replace(
            step=state.step + 1,
            nonfinite_steps=jnp.where(finite, 0, state.nonfinite_steps + 1),
            **moved,
        )
        return state, scalars | {"gradient_norm": norm, "nonfinite": 1.0 - finite}

    return step


def _example_key(seed: int, index: Array) -> Array:
    """The key of one example, from its place in the endless stream of examples."""
    return jax.random.fold_in(jax.random.key(seed), index)


def _update(
    optimizer: optax.GradientTransformation,
    grads: PyTree,
    opt_state: optax.OptState,
    params: PyTree,
) -> tuple[PyTree, optax.OptState]:
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state


def _moving_average(average: PyTree, params: PyTree, step: Array, decay: float) -> PyTree:
    """`average` moved towards `params`; the ramp keeps the initial noise out of short runs."""
    step = step.astype(jnp.float32)
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: p + decay * (a - p), average, params)
