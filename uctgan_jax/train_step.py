"""One step of training, as a pure function of what trains, the state and a batch.

From a batch to an update, in the order of this file: `train_step` takes gradients by
`gradients_and_metrics`, whose two losses are `generator_loss` (E1, E2 and G) and
`discriminator_loss` (D), and hands them to `apply_gradients`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from uctgan_jax import augment, losses
from uctgan_jax.evaluation.metrics.lpips import feature_distance
from uctgan_jax.losses import LossWeights
from uctgan_jax.nets import Networks, sample_code
from uctgan_jax.nets.blocks import each_color
from uctgan_jax.optimizers import Optimizers
from uctgan_jax.preprocess import composite, normalize
from uctgan_jax.train_state import TrainState

Array = jax.Array
PyTree = Any
Batch = Mapping[str, Array]
Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Trainee:
    """All of a training step that is neither state nor data.

    Attributes:
      networks: E1, E2, G and D.
      optimizers: of E1, E2 and G together, and of D.
      weights: of the losses; 0 turns a term off.
      seed: of all noise.
      ema_decay: final decay of the parameter average; it ramps up as (1 + step) / (10 + step).
      instance_path: whether I_c, the completion with the instance's code, is made and judged.
        Without it the terms of I_c are left out: a conditional VAE-GAN.
      colour_jitter: strength of `augment.jitter_colours` on what E1 sees, 0 for none.
      augment: whether D sees pictures through `augment.augment`.
      num_parts: of the batch, one after another: gradients are added up, and only a part's
        activations take memory.
      axis_name: the mapped axis to average gradients over, None if the whole batch is here.
    """

    networks: Networks
    optimizers: Optimizers
    weights: LossWeights
    seed: int
    ema_decay: float
    instance_path: bool = True
    colour_jitter: float = 0.0
    augment: bool = False
    num_parts: int = 1
    axis_name: str | None = None


class Keys(NamedTuple):
    """The random keys of each example, [B] each."""

    instance_noise: Array
    own_noise: Array
    instance_jitter: Array
    own_jitter: Array
    augment: Array


class View(NamedTuple):
    """Pictures as patches, [B, h, w, p*p*3], and maps of them, [B, h', w', C], if they are seen."""

    pictures: Array
    maps: list[Array]


def train_step(trainee: Trainee, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Moves all players at once, from pictures that G makes once.

    Noise is drawn from each example's global index: the numbers are the same on one device or on
    many, and a resumed run needs no saved key. A step whose losses or gradients are not finite
    changes nothing but `step` and `nonfinite_steps`.

    Args:
      trainee: what trains; static, bind it with `functools.partial` before compiling.
      state: before the step.
      batch: as patches (see `nets.blocks`), `image` and `instance` uint8 [B, h, w, p*p*3] and
        `mask` uint8 [B, h, w, p*p] with 1 = hole; and `index` uint32 [B], the position of each
        example in the run's endless stream.

    Returns:
      The state after the step, and float32 scalars: `loss/<term>` for each term, `loss/generator`
      and `loss/discriminator` for their sums, `gradient_norm`, and `nonfinite`, 0 or 1.
    """
    grads, metrics = mean_over_batch(
        functools.partial(gradients_and_metrics, trainee, state),
        batch,
        num_parts=trainee.num_parts,
        axis_name=trainee.axis_name,
    )
    return apply_gradients(trainee, state, grads, metrics)


def gradients_and_metrics(
    trainee: Trainee, state: TrainState, batch: Batch
) -> tuple[dict[str, PyTree], Metrics]:
    """The gradients of each player that learns, {"generator", "discriminator"}, and the losses."""
    keys = Keys(*example_keys(trainee.seed, batch["index"], len(Keys._fields)))
    batch = {
        "image": normalize(batch["image"]),
        "instance": normalize(batch["instance"]),
        "mask": batch["mask"].astype(jnp.float32),
    }
    grads = {}
    (loss, (terms, (real, fake))), grads["generator"] = jax.value_and_grad(
        generator_loss, has_aux=True
    )(state.generator_params, trainee, state.discriminator_params, batch, keys)
    metrics = {"loss/generator": loss} | {f"loss/{name}": term for name, term in terms.items()}
    if trainee.weights.adversarial:
        (loss, terms), grads["discriminator"] = jax.value_and_grad(
            discriminator_loss, has_aux=True
        )(state.discriminator_params, trainee, real, fake, batch, keys)
        metrics |= {"loss/discriminator": loss}
        metrics |= {f"loss/{name}": term for name, term in terms.items()}
    return grads, metrics


def generator_loss(
    params: PyTree, trainee: Trainee, discriminator_params: PyTree, batch: Batch, keys: Keys
) -> tuple[Array, tuple[dict[str, Array], tuple[View, View]]]:
    """The loss of E1, E2 and G; also its terms, and the real pictures and composites for D.

    Composites of the instance path, if it is on, come before those of the reconstruction path.
    """
    networks, weights = trainee.networks, trainee.weights
    target, mask = batch["image"], batch["mask"]
    size, num_paths = len(target), 2 if trainee.instance_path else 1
    hole = each_color(mask)

    mean, log_variance, code = project_views(params, trainee, batch, keys)
    # I_c = G(z_i, E2(I_m)) and I_r = G(z_g, E2(I_m)): the condition is encoded once.
    condition = networks.encode(params, target, mask)
    masks = _repeat(mask, num_paths)
    outputs = networks.generate(
        params, code, [_repeat(features, num_paths) for features in condition], masks
    )
    completion, reconstruction = outputs[:size], outputs[-size:]
    composites = composite(outputs, _repeat(target, num_paths), _repeat(hole, num_paths))
    real, fake = view(trainee, target), view(trainee, composites)

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
    if weights.perceptual:
        own = [features[-size:] for features in fake.maps]
        terms["perceptual"] = jnp.mean(feature_distance(own, real.maps))
    if weights.condition_l1 and trainee.instance_path:
        terms["condition_l1"] = losses.condition_l1(completion=completion, target=target, mask=hole)
    if weights.manifold_l1 and trainee.instance_path:
        # The gradient goes to G and E2 alone: E1 could satisfy the term by itself.
        seen, _ = networks.project(jax.lax.stop_gradient(params), composites[:size])
        terms["manifold_l1"] = losses.manifold_l1(code=seen, target_code=code[:size])
    if weights.kl:
        terms["kl"] = losses.kl_divergence(mean=mean, log_variance=log_variance)
    # What D sees: its penalties are of these numbers.
    real, fake = (View(pictures, networks.judged(maps)) for pictures, maps in (real, fake))
    if weights.adversarial:
        real_logits, fake_logits = paired_logits(
            trainee, discriminator_params, real, fake, batch, keys
        )
        terms["adversarial"] = losses.relativistic_generator(
            real_logits=real_logits, fake_logits=fake_logits
        )
    total = sum(getattr(weights, name) * term for name, term in terms.items())
    return total, (terms, (real, fake))


def view(trainee: Trainee, pictures: Array) -> View:
    """What the losses see of pictures, given as patches."""
    networks, weights = trainee.networks, trainee.weights
    judges_features = weights.adversarial and networks.discriminator.head_width
    if weights.perceptual or judges_features:
        return View(pictures, networks.features(pictures))
    return View(pictures, [])


def project_views(
    params: PyTree, trainee: Trainee, batch: Batch, keys: Keys
) -> tuple[Array, Array, Array]:
    """E1's means, log-variances and codes of I_i, if its path is on, and then of I_g.

    E1 learns what codes mean from I_g, the known pair, and only the KL term's gradient reaches it
    from I_i: G and E2 learn to follow any code [our choice].
    """
    networks, size = trainee.networks, len(batch["image"])
    views, noise_keys, jitter_keys = batch["image"], keys.own_noise, keys.own_jitter
    if trainee.instance_path:
        views = jnp.concatenate([batch["instance"], views])
        noise_keys = jnp.concatenate([keys.instance_noise, noise_keys])
        jitter_keys = jnp.concatenate([keys.instance_jitter, jitter_keys])
    if trainee.colour_jitter:
        views = augment.jitter_colours(views, jitter_keys, trainee.colour_jitter)
    mean, log_variance = networks.project(params, views)
    noise = jax.vmap(lambda key: jax.random.normal(key, (networks.code_dim,)))(noise_keys)
    code = sample_code(noise, mean, log_variance)
    if trainee.instance_path:
        code = jnp.concatenate([jax.lax.stop_gradient(code[:size]), code[size:]])
    return mean, log_variance, code


def discriminator_loss(
    params: PyTree, trainee: Trainee, real: View, fake: View, batch: Batch, keys: Keys
) -> tuple[Array, dict[str, Array]]:
    """D's loss, and its gradient penalties."""
    real_logits, fake_logits = paired_logits(trainee, params, real, fake, batch, keys)
    loss = losses.relativistic_discriminator(real_logits=real_logits, fake_logits=fake_logits)
    if not trainee.weights.gradient_penalty:
        return loss, {}

    def penalty(seen: View) -> Array:
        return losses.gradient_penalty(
            lambda seen: discriminate(trainee, params, seen, batch["mask"]), seen
        )

    # R2 at I_c, or at I_r without its path: each costs as much as all else that D does.
    size = len(batch["image"])
    terms = {"r1": penalty(real), "r2": penalty(jax.tree.map(lambda rows: rows[:size], fake))}
    return loss + trainee.weights.gradient_penalty * (terms["r1"] + terms["r2"]), terms


def paired_logits(
    trainee: Trainee, params: PyTree, real: View, fake: View, batch: Batch, keys: Keys
) -> tuple[Array, Array]:
    """D's logits of each composite's real picture and of the composites, [N*B, L] each, N paths.

    Augmentation changes the pixels alone: D's heads are small, and features of changed pictures
    would cost as much again.
    """
    size = len(batch["image"])
    num_paths = len(fake.pictures) // size
    both = jax.tree.map(lambda *rows: jnp.concatenate(rows), real, fake)
    masks = _repeat(batch["mask"], 1 + num_paths)
    if trainee.augment:
        pictures, masks = augment.augment(
            both.pictures, masks, _repeat(keys.augment, 1 + num_paths)
        )
        both = both._replace(pictures=pictures)
    logits = discriminate(trainee, params, both, masks)
    return _repeat(logits[:size], num_paths), logits[size:]


def discriminate(trainee: Trainee, params: PyTree, seen: View, mask: Array) -> Array:
    """D's logits of pictures, [B, L]."""
    return trainee.networks.discriminate(params, seen.pictures, mask, seen.maps)


def apply_gradients(
    trainee: Trainee, state: TrainState, grads: Mapping[str, PyTree], metrics: Metrics
) -> tuple[TrainState, Metrics]:
    """The state after an update by `grads`, unless something is not finite."""
    updates = {}
    for player, gradients in grads.items():
        params = getattr(state, f"{player}_params")
        steps, updates[f"{player}_opt_state"] = getattr(trainee.optimizers, player).update(
            gradients, getattr(state, f"{player}_opt_state"), params
        )
        updates[f"{player}_params"] = optax.apply_updates(params, steps)
    updates["ema_params"] = moving_average(
        state.ema_params, updates["generator_params"], state.step, trainee.ema_decay
    )
    return guarded_update(state, updates, grads, metrics)


def guarded_update(
    state: PyTree, updates: Mapping[str, PyTree], grads: PyTree, metrics: Metrics
) -> tuple[PyTree, Metrics]:
    """The state with some of its fields replaced; as it was if losses or gradients are not finite.

    Args:
      state: with `step` and `nonfinite_steps`, which count in any case.
      updates: new values of its fields, by name.
      grads, metrics: what has to be finite.

    Returns:
      The state, and the metrics with `gradient_norm` and `nonfinite`.
    """
    norm = optax.tree.norm(grads)
    finite = jnp.isfinite(norm + sum(metrics.values()))
    before = {name: getattr(state, name) for name in updates}
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), dict(updates), before)
    state = state.replace(
        step=state.step + 1,
        nonfinite_steps=jnp.where(finite, 0, state.nonfinite_steps + 1),
        **kept,
    )
    return state, {**metrics, "gradient_norm": norm, "nonfinite": 1.0 - finite}


def moving_average(average: PyTree, params: PyTree, step: Array, decay: float) -> PyTree:
    """`average` moved towards `params`; the ramp keeps the initial noise out of short runs."""
    step = step.astype(jnp.float32)
    ramped = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: p + ramped * (a - p), average, params)


def example_keys(seed: int, index: Array, num_keys: int) -> list[Array]:
    """`num_keys` keys of each example, each [B], from its place in the endless stream, [B]."""
    base = jax.random.key(seed)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(base, i), num_keys))(index)
    return [keys[:, number] for number in range(num_keys)]


def mean_over_batch(
    function: Callable[[Batch], PyTree], batch: Batch, *, num_parts: int, axis_name: str | None
) -> PyTree:
    """The mean of what a function gives for the parts of a batch, over all devices.

    Args:
      function: of a batch.
      batch: this device's share.
      num_parts: equal parts of it, taken one after another.
      axis_name: the mapped axis of the devices, None if the whole batch is here.
    """
    mean = _mean_of_parts(function, batch, num_parts)
    return mean if axis_name is None else jax.lax.pmean(mean, axis_name)


def _mean_of_parts(function: Callable[[Batch], PyTree], batch: Batch, num_parts: int) -> PyTree:
    if num_parts == 1:
        return function(batch)
    # Each part takes every `num_parts`-th row, so that all devices share each part.
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


def _repeat(rows: Array, times: int) -> Array:
    """[B, ...] to [times * B, ...], the whole batch again and again."""
    return jnp.concatenate([rows] * times) if times > 1 else rows
