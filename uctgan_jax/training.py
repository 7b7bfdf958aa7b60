"""The training loop: data in, steps, logs, samples and checkpoints out, resumable at any point."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import clu.asynclib
import clu.parameter_overview
import jax
import ml_collections
import numpy as np
import optax
import tensorboardX
from jax.experimental import multihost_utils
from tqdm import tqdm

from uctgan_jax import images as host_images
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.data import pipeline, sources
from uctgan_jax.inpainting import complete_codes, sample_prior
from uctgan_jax.nets import Networks, build_networks
from uctgan_jax.parallel import DataParallel
from uctgan_jax.train_state import Optimizers, TrainState, create_train_state
from uctgan_jax.train_step import LossWeights, make_train_step

# What may differ when a run goes on: none of it changes the numbers of a step.
RESUMABLE_FIELDS = frozenset(
    {
        "num_train_steps",
        "log_every_steps",
        "checkpoint_every_steps",
        "sample_every_steps",
        "parallel",
        "max_nonfinite_steps",
        "data.dir",
        "data.num_threads",
        "data.max_corrupt",
        "eval",
    }
)

_NUM_SAMPLE_PICTURES = 8
_NUM_SAMPLES = 6


class NonFiniteError(RuntimeError):
    """Losses or gradients were not finite for too many steps in a row."""


class ConfigMismatchError(ValueError):
    """A workdir holds a run of another config."""


def make_optimizers(
    *,
    generator_learning_rate: float,
    discriminator_learning_rate: float,
    beta1: float,
    beta2: float,
) -> Optimizers:
    """Adam for both sides, each with its own learning rate."""
    return Optimizers(
        generator=optax.adam(generator_learning_rate, beta1, beta2),
        discriminator=optax.adam(discriminator_learning_rate, beta1, beta2),
    )


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raises a ValueError that names the first count or weight which makes no sense."""
    for name in (
        "num_train_steps",
        "log_every_steps",
        "checkpoint_every_steps",
        "sample_every_steps",
        "max_nonfinite_steps",
    ):
        if config[name] < 1:
            raise ValueError(f"{name} ({config[name]}) must be 1 or more")
    for name, weight in config.loss.items():
        if not 0 <= weight < float("inf"):
            raise ValueError(f"loss.{name} ({weight}) must be 0 (off) or a positive number")
    if not any(config.loss.values()):
        raise ValueError("every weight in loss is 0: there is nothing to train")
    if not 0 <= config.ema_decay < 1:
        raise ValueError(f"ema_decay ({config.ema_decay}) must be in [0, 1)")
    if not 0 <= config.color_jitter < 1:
        raise ValueError(f"color_jitter ({config.color_jitter}) must be in [0, 1)")


def train(config: ml_collections.ConfigDict, workdir: str | Path) -> TrainState:
    """Trains, from the beginning or from the newest checkpoint in `workdir`.

    Leaves `checkpoints/`, `samples/`, `metrics.jsonl`, `config.json` and TensorBoard event files
    in `workdir`. SIGTERM saves a checkpoint and ends the training in good order.

    Args:
        config: see `configs/default.py`.
        workdir: the folder of the run, made if need be.

    Returns:
        The last state, as numpy arrays.

    Raises:
        ValueError: if the config is unusable, before anything is compiled.
        ConfigMismatchError: if `workdir` holds a run of another config.
        OSError: if `workdir` cannot be written.
        NonFiniteError: after `config.max_nonfinite_steps` non-finite steps in a row.
    """
    workdir = Path(workdir).expanduser()
    check_config(config)
    parallel = DataParallel(config.parallel)
    parallel.check_batch_size(config.batch_size)
    networks = build_networks(
        image_size=config.image_size, compute_dtype=config.compute_dtype, **config.model
    )
    weights = LossWeights(**config.loss)
    optimizers = make_optimizers(**config.optimizer)
    _check_workdir(workdir, config)
    source, held_out = (
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
    example_options = dict(
        image_size=config.image_size,
        mask_kind=config.mask.kind,
        hole_share=tuple(config.mask.hole_share),
        region=tuple(config.mask.region),
        mask_convention=config.mask.convention,
        seed=config.seed,
    )
    (sample_batch,) = pipeline.eval_batches(
        held_out,
        batch_size=_NUM_SAMPLE_PICTURES,
        num_examples=_NUM_SAMPLE_PICTURES,
        **example_options,
    )
    if jax.process_index() == 0:
        _write_text(workdir / "config.json", json.dumps(config_dict(config), indent=2) + "\n")

    with Checkpoints(workdir / "checkpoints") as checkpoints:
        state = _restore_or_create(checkpoints, config.seed, networks, optimizers)
        first_step = int(state.step)
        _say(f"{'resuming' if first_step else 'starting'} from step {first_step} in {workdir}")
        if jax.process_index() == 0:
            _write_text(workdir / "parameters.txt", _parameter_table(state))
        step_fn = parallel.compile(
            make_train_step(
                networks=networks,
                optimizers=optimizers,
                weights=weights,
                seed=config.seed,
                color_jitter=config.color_jitter,
                ema_decay=config.ema_decay,
                axis_name=parallel.axis_name,
            )
        )
        batches = pipeline.train_batches(
            source,
            batch_size=config.batch_size,
            flip=config.data.flip,
            start_step=first_step,
            num_threads=config.data.num_threads,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            **example_options,
        )
        state = parallel.replicate(state)
        with (
            _SampleSheets(networks, sample_batch, workdir / "samples") as sample_sheets,
            _Log(workdir, first_step, config.batch_size) as log,
            _PreemptionNotice() as preemption,
            _progress_bar(first_step, config.num_train_steps) as progress,
        ):
            batches = log.timed(parallel.prefetch(_device_types(batches)))
            for step in range(first_step + 1, config.num_train_steps + 1):
                state, metrics = step_fn(state, next(batches))
                log.add(metrics)
                progress.update()
                preempted = preemption.received(step)
                last = step == config.num_train_steps or preempted
                if step % config.log_every_steps == 0 or last:
                    record = log.write(step, parallel.fetch)
                    progress.set_postfix_str(_postfix(record), refresh=False)
                    _stop_if_not_finite(state, record, parallel, config.max_nonfinite_steps)
                if step % config.sample_every_steps == 0 or last:
                    sample_sheets.draw(step, parallel.fetch(state.ema_params))
                if step % config.checkpoint_every_steps == 0 or last:
                    checkpoints.save(parallel.fetch(state), config_dict(config))
                if preempted:
                    _say(f"told to stop: saving step {step}, ending")
                    break
    return parallel.fetch(state)


def _say(message: str) -> None:
    """Prints, once for all processes."""
    if jax.process_index() == 0:
        print(message, flush=True)


def _restore_or_create(
    checkpoints: Checkpoints, seed: int, networks: Networks, optimizers: Optimizers
) -> TrainState:
    """The state of the newest sound checkpoint, or a fresh one."""

    def create() -> TrainState:
        return create_train_state(jax.random.key(seed), networks, optimizers)

    state = checkpoints.restore_latest(jax.eval_shape(create))
    return jax.jit(create)() if state is None else state


def _progress_bar(first_step: int, num_train_steps: int) -> tqdm:
    return tqdm(
        total=num_train_steps,
        initial=first_step,
        desc="train",
        unit="step",
        dynamic_ncols=True,
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


def _check_workdir(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Makes the folder, tries it, and holds the config against that of an earlier run in it."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=workdir).close()
    except OSError as error:
        raise OSError(f"workdir {workdir} cannot be written: {error}") from error
    path = workdir / "config.json"
    if not path.exists():
        return
    differences = config_differences(json.loads(path.read_text()), config_dict(config))
    listed = "; ".join(
        f"{name}: {before!r} there, {now!r} now"
        for name, (before, now) in differences.items()
        if name not in RESUMABLE_FIELDS and name.partition(".")[0] not in RESUMABLE_FIELDS
    )
    if listed:
        raise ConfigMismatchError(
            f"{workdir} holds a run of another config ({listed}); choose another workdir"
        )


def _write_text(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def _device_types(batches: Iterable[dict[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
    """Batches with the 32-bit indices that devices and key folding take."""
    for batch in batches:
        yield {**batch, "index": batch["index"].astype(np.uint32)}


def _parameter_table(state: TrainState) -> str:
    """Every parameter of both sides: name, shape, count, mean and standard deviation."""
    players = {"generator": state.generator_params, "discriminator": state.discriminator_params}
    return clu.parameter_overview.get_parameter_overview(players) + "\n"


def _postfix(record: Mapping[str, float]) -> str:
    return (
        f"{record['images_per_sec']:.1f} pictures/s,"
        f" generator {record['loss/generator']:.3f},"
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
        f" ({', '.join(names) or 'gradients'}) and changed nothing. Try a lower learning rate,"
        " compute_dtype float32, or look at the data; the last checkpoint is sound"
    )


class _Log:
    """Metrics to `metrics.jsonl` and TensorBoard: means over the steps since the last record.

    Of several processes the first one writes.
    """

    def __init__(self, workdir: Path, first_step: int, batch_size: int):
        self._path = workdir / "metrics.jsonl"
        self._batch_size = batch_size
        self._pending: list[Any] = []
        self._waited = 0.0
        self._since = time.perf_counter()
        self._tensorboard = None
        if jax.process_index() != 0:
            return
        if self._path.exists():  # Steps after the checkpoint will be taken, and logged, again.
            lines = self._path.read_text().splitlines()
            kept = [line for line in lines if _logged_step(line) <= first_step]
            _write_text(self._path, "".join(line + "\n" for line in kept))
        self._tensorboard = tensorboardX.SummaryWriter(str(workdir), purge_step=first_step + 1)

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._tensorboard:
            self._tensorboard.close()

    def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Passes batches on, and notes how long they were waited for."""
        batches = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(batches)
            self._waited += time.perf_counter() - start
            yield batch

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of one step, without waiting for them."""
        self._pending.append(metrics)
        if len(self._pending) > 2:  # The host stays at most two steps ahead of the devices.
            jax.block_until_ready(self._pending[-3])

    def write(self, step: int, fetch: Any) -> dict[str, float]:
        """Writes the record of a step: the means of all that was added since the last one."""
        steps = [fetch(metrics) for metrics in self._pending]
        seconds = time.perf_counter() - self._since
        record = {"step": step}
        record |= {name: float(np.mean([s[name] for s in steps])) for name in sorted(steps[0])}
        record["images_per_sec"] = len(steps) * self._batch_size / seconds
        record["data_wait_fraction"] = self._waited / seconds
        if self._tensorboard:
            with self._path.open("a") as file:
                file.write(json.dumps(_json_numbers(record)) + "\n")
            for name, value in record.items():
                if name != "step":
                    self._tensorboard.add_scalar(name, value, step)
        self._pending, self._waited, self._since = [], 0.0, time.perf_counter()
        return record


def _logged_step(line: str) -> float:
    """The step of a log line; infinity for one that a kill cut short."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")


def _json_numbers(record: Mapping[str, float]) -> dict[str, float | str]:
    """JSON knows no NaN or infinity: they are written as strings."""
    return {k: v if np.isfinite(v) else str(v) for k, v in record.items()}


class _SampleSheets:
    """Pictures of how training goes: the same held-out pictures completed at every visit.

    Of several processes the first one draws.
    """

    def __init__(self, networks: Networks, batch: Mapping[str, np.ndarray], folder: Path):
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._batch = batch
        self._writer = clu.asynclib.Pool("samples", max_workers=1)

        @jax.jit
        def complete(params: Any, images: jax.Array, masks: jax.Array) -> jax.Array:
            keys = jax.random.split(jax.random.key(0), images.shape[0])
            codes = sample_prior(keys, _NUM_SAMPLES, networks.code_dim)
            return complete_codes(networks, params, images, masks, codes)

        self._complete = complete

    def __enter__(self) -> _SampleSheets:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._writer.join()

    def draw(self, step: int, params: Any) -> None:
        """Writes `<step>.png` in the background."""
        if jax.process_index() != 0:
            return
        completions = self._complete(params, self._batch["image"], self._batch["mask"])
        self._writer(self._write)(step, np.asarray(completions))

    def _write(self, step: int, completions: np.ndarray) -> None:
        sheet = host_images.completion_sheet(self._batch["image"], self._batch["mask"], completions)
        host_images.write_image(self._folder / f"{step:08d}.png", sheet)


class _PreemptionNotice:
    """Catches SIGTERM, which a cluster sends before it takes a machine back."""

    def __init__(self) -> None:
        self._told = False
        self._previous: Any = None

    def __enter__(self) -> _PreemptionNotice:
        # With several processes, JAX's own service catches the signal and tells all of them.
        if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def received(self, step: int) -> bool:
        """Whether to stop after this step: the same answer in every process."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self._told

    def _on_signal(self, *_: object) -> None:
        self._told = True
