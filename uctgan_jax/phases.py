"""The phases of a run: which steps are of one kind, and what batches they take."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from uctgan_jax.data import pipeline
from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.sources import Source
from uctgan_jax.nets import Networks
from uctgan_jax.parallel import DataParallel
from uctgan_jax.prior.latents import encoded_batches
from uctgan_jax.prior.whitening import inputs_needed
from uctgan_jax.train_state import Optimizers
from uctgan_jax.train_step import (
    LossWeights,
    TrainStep,
    make_encoder,
    make_prior_step,
    make_train_step,
)

PyTree = Any


@dataclasses.dataclass(frozen=True)
class Phase:
    """Steps of one kind: those after `start`, to `end`.

    Attributes:
      name: "reconstructions": E1, E2 and G learn from I_r alone. "game": all players learn, the
        prior too, as the game carries codes with it. "guide" and "prior": what is named learns
        alone, from a still target and for a fraction of the cost.
      batch_size: of its batches.
      stream_start: the step that its stream of batches begins after; phases can share one.
    """

    name: str
    start: int
    end: int
    batch_size: int
    stream_start: int

    @property
    def prior_alone(self) -> bool:
        """Nothing else moves then, not even the guide."""
        return self.name == "prior"

    @property
    def encoded(self) -> bool:
        """Whether its batches are what E1 and E2 made of pictures; they are not run then."""
        return self.name in ("guide", "prior")


def phases_after(first_step: int, config: ml_collections.ConfigDict) -> list[Phase]:
    """The phases that have steps to take after `first_step`, in their order."""
    last = config.num_train_steps - config.prior_steps
    reconstructions = min(config.reconstruction_steps, last)
    guide = last + config.guide_steps
    whole = dict(batch_size=config.batch_size, stream_start=0)
    alone = dict(batch_size=config.prior_batch_size, stream_start=last)
    phases = [
        Phase("reconstructions", start=0, end=reconstructions, **whole),
        Phase("game", start=reconstructions, end=last, **whole),
        Phase("guide", start=last, end=guide, **alone),
        Phase("prior", start=guide, end=config.num_train_steps, **alone),
    ]
    return [phase for phase in phases if max(phase.start, first_step) < phase.end]


def make_step(
    phase: Phase,
    config: ml_collections.ConfigDict,
    *,
    networks: Networks,
    optimizers: Optimizers,
    axis_name: str | None,
) -> TrainStep:
    """Builds the step of a phase; see `make_train_step` and `make_prior_step`."""
    options = dict(
        networks=networks,
        optimizers=optimizers,
        seed=config.seed,
        ema_decay=config.ema_decay,
        start_step=phase.start,
        axis_name=axis_name,
    )
    if phase.encoded:
        return make_prior_step(learner=phase.name, **options)
    weights, instance_path = LossWeights(**config.loss), config.instance_path
    if phase.name == "reconstructions":
        weights = dataclasses.replace(weights, adversarial=0.0, prior=0.0)
        instance_path = False
    return make_train_step(
        weights=weights,
        instance_path=instance_path,
        frozen=config.frozen,
        num_parts=config.gradient_accumulation,
        **options,
    )


def batch_shapes(
    phase: Phase, networks: Networks, params: PyTree
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a phase's batches, of all processes together.

    `params` are those of E1 and E2, or shapes like theirs.
    """
    side, pixels = networks.image_size // networks.patch_size, networks.patch_size**2

    def rows(*shape: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((phase.batch_size, *shape), dtype)

    batch = {
        "image": rows(side, side, 3 * pixels, dtype=np.uint8),
        "instance": rows(side, side, 3 * pixels, dtype=np.uint8),
        "mask": rows(side, side, pixels, dtype=np.uint8),
    }
    if phase.encoded:
        batch = jax.eval_shape(make_encoder(networks), params, batch)
    return batch | {"index": rows(dtype=np.uint32)}


def last_measured(phase: Phase, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> int:
    """The step whose batch is the last that `whitening.measure` needs, 0 for phases without.

    `shapes` are those of the phase's batches.
    """
    if not phase.encoded:
        return 0
    batch_size, size = shapes["condition"].shape
    return phase.stream_start + -(-inputs_needed(size) // batch_size)


def phase_batches(
    phase: Phase,
    step: int,
    params: PyTree,
    *,
    config: ml_collections.ConfigDict,
    source: Source,
    networks: Networks,
    parallel: DataParallel,
) -> Iterator[dict[str, jax.Array]]:
    """A phase's batches after `step`, endless, on the devices.

    No example comes a second time in a run, as all noise is drawn from its position: the phases
    before one that has batches of its own size have those of `config.batch_size`.

    Args:
      phase: whose batches.
      step: of the run.
      params: on the devices; of those "projection" (E1) and "encoder" (E2) encode the pictures for
        the steps of the prior alone.
      config: of the run.
      source: of the pictures to train on.
      networks: E1 and E2, and the size of patches.
      parallel: the devices.
    """
    first = -(-phase.stream_start * config.batch_size // phase.batch_size)
    processes = dict(process_index=jax.process_index(), process_count=jax.process_count())

    def read(start_step: int) -> Iterator[dict[str, jax.Array]]:
        batches = pipeline.train_batches(
            source,
            batch_size=phase.batch_size,
            start_step=start_step,
            image_size=config.image_size,
            masks=MaskOptions(**config.mask),
            seed=config.seed,
            flip=config.data.flip,
            patch_size=networks.patch_size,
            num_threads=config.data.num_threads,
            cache_bytes=round(config.data.cache_gib * 2**30),
            **processes,
        )
        return parallel.prefetch(device_types(batches))

    if not phase.encoded:
        return read(first + step - phase.stream_start)
    # Copies, as those of a state are donated.
    params = {name: params[name] for name in ("projection", "encoder")}
    params = parallel.replicate(parallel.fetch(params))
    encode = parallel.compile_rows(make_encoder(networks))
    encoded = (encode(params, batch) | {"index": batch["index"]} for batch in read(first))
    # The devices work on one batch while that before it is fetched.
    fresh = (parallel.fetch_rows(rows) for rows, _ in itertools.pairwise(encoded))
    batches = encoded_batches(
        fresh,
        batch_size=phase.batch_size,
        num_kept=config.prior_examples // phase.batch_size,
        seed=config.seed,
        start_step=step - phase.stream_start,
        **processes,
    )
    return parallel.prefetch(batches)


def device_types(batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Batches with the 32-bit indices that devices and key folding take."""
    for batch in batches:
        yield {**batch, "index": batch["index"].astype(np.uint32)}
