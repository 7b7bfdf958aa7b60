"""One step of PIC's training, as a pure function of what trains, the state and a batch."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from baselines.pic import losses
from baselines.pic.losses import LossWeights
from baselines.pic.nets import PATHS, Networks
from uctgan_jax.losses import condition_l1, gradient_penalty, reconstruction_l1
from uctgan_jax.nets import sample_code
from uctgan_jax.nets.blocks import each_color
from uctgan_jax.optimizers import Optimizers
from uctgan_jax.preprocess import normalize
from uctgan_jax.train_state import TrainState
from uctgan_jax.train_step import apply_gradients, example_keys, mean_over_batch

Array = jax.Array
PyTree = Any
Batch = Mapping[str, Array]
Metrics = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Trainee:
    """All of a training step that is neither state nor data; see `uctgan_jax.train_step`."""

    networks: Networks
    optimizers: Optimizers
    weights: LossWeights
    seed: int
    ema_decay: float
    num_parts: int = 1
    axis_name: str | None = None


class Keys(NamedTuple):
    """The random keys of each example, [B] each."""

    posterior_noise: Array
    prior_noise: Array


def train_step(trainee: Trainee, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    """Moves all players at once; batches and results are as for `uctgan_jax.train_step`.

    The second pictures of a batch, `instance`, have no part in it.
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
    """The gradients of {"generator", "discriminator"}, and the losses."""
    keys = Keys(*example_keys(trainee.seed, batch["index"], len(Keys._fields)))
    target, mask = normalize(batch["image"]), batch["mask"].astype(jnp.float32)
    grads = {}
    (loss, (terms, outputs)), grads["generator"] = jax.value_and_grad(generator_loss, has_aux=True)(
        state.generator_params, trainee, state.discriminator_params, target, mask, keys
    )
    metrics = {"loss/generator": loss} | {f"loss/{name}": term for name, term in terms.items()}
    (loss, terms), grads["discriminator"] = jax.value_and_grad(discriminator_loss, has_aux=True)(
        state.discriminator_params, trainee, outputs, target, mask
    )
    metrics |= {"loss/discriminator": loss} | {f"loss/{name}": v for name, v in terms.items()}
    return grads, metrics


def generator_loss(
    params: PyTree,
    trainee: Trainee,
    discriminator_params: PyTree,
    target: Array,
    mask: Array,
    keys: Keys,
) -> tuple[Array, tuple[dict[str, Array], dict[str, Array]]]:
    """The loss of all but the discriminators; also its terms, and the outputs of both `PATHS`.

    Args:
      params: of encoder, inference networks and generator.
      trainee: what trains.
      discriminator_params: of both paths.
      target: I_g as patches, [B, h, w, p*p*3] float32 in [-1, 1].
      mask: patches, [B, h, w, p*p] float32, 1 = hole.
      keys: [B] each.
    """
    networks, weights = trainee.networks, trainee.weights
    features = networks.encode(params, target, mask)
    posterior = networks.infer_posterior(params, target, mask)
    prior = networks.infer_prior(params, features)

    draw = jax.vmap(lambda key: jax.random.normal(key, networks.code_shape))
    codes = [
        sample_code(draw(keys.posterior_noise), *posterior),
        sample_code(draw(keys.prior_noise), *prior),
    ]
    outputs = networks.generate(
        params, jnp.concatenate(codes), [_twice(x) for x in features], _twice(mask)
    )
    reconstruction, completion = jnp.split(outputs, 2)

    terms = kl_terms(posterior, prior, mask) | {
        "appearance_reconstructive": reconstruction_l1(
            reconstruction=reconstruction, target=target
        ),
        "appearance_generative": condition_l1(
            completion=completion, target=target, mask=each_color(mask)
        ),
    }
    judge = discriminator_params["reconstructive"]
    _, target_features = networks.discriminate(judge, target, mask)
    _, own_features = networks.discriminate(judge, reconstruction, mask)
    terms["adversarial_reconstructive"] = losses.feature_matching(
        features=own_features, target_features=target_features
    )
    scores, _ = networks.discriminate(discriminator_params["generative"], completion, mask)
    terms["adversarial_generative"] = losses.least_squares_generator(fake_scores=scores)
    total = sum(getattr(weights, name.split("_")[0]) * term for name, term in terms.items())
    return total, (terms, dict(zip(PATHS, (reconstruction, completion), strict=True)))


def kl_terms(
    posterior: tuple[Array, Array], prior: tuple[Array, Array], mask: Array
) -> dict[str, Array]:
    """The KL terms of both paths.

    The posterior is held to N(0, sigma^2(n) I), with sigma^2 the share of hidden pixels [our
    choice]: less that is hidden leaves less to say. The prior follows the posterior, and not the
    other way round: the posterior alone has seen I_c.
    """
    mean, log_variance = posterior
    hidden = jnp.mean(mask, axis=(1, 2, 3), keepdims=True)
    fixed_mean, fixed_log_variance = jax.lax.stop_gradient(posterior)
    prior_mean, prior_log_variance = prior
    return {
        "kl_reconstructive": losses.kl_divergence(
            mean=mean,
            log_variance=log_variance,
            prior_mean=jnp.zeros(()),
            prior_log_variance=jnp.log(jnp.maximum(hidden, 1e-3)),
        ),
        "kl_generative": losses.kl_divergence(
            mean=fixed_mean,
            log_variance=fixed_log_variance,
            prior_mean=prior_mean,
            prior_log_variance=prior_log_variance,
        ),
    }


def discriminator_loss(
    params: PyTree, trainee: Trainee, outputs: Mapping[str, Array], target: Array, mask: Array
) -> tuple[Array, dict[str, Array]]:
    """The loss of both discriminators together, and its terms.

    Whole outputs are judged, not composites [paper].
    """

    def scores(path: str, pictures: Array) -> Array:
        return trainee.networks.discriminate(params[path], pictures, mask)[0]

    total, terms = 0.0, {}
    for path in PATHS:
        terms[f"discriminator_{path}"] = losses.least_squares_discriminator(
            real_scores=scores(path, target), fake_scores=scores(path, outputs[path])
        )
        total += terms[f"discriminator_{path}"]
        if trainee.weights.gradient_penalty:
            penalty = gradient_penalty(functools.partial(scores, path), target)
            terms[f"r1_{path}"] = penalty
            total += trainee.weights.gradient_penalty * penalty
    return total, terms


def _twice(rows: Array) -> Array:
    return jnp.concatenate([rows, rows])
