"""The protocols `completion` and `paper`: a model, its earlier checkpoints, other programs."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import ml_collections
import numpy as np

from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.evaluation.cache import EvaluationCache, merge_files
from uctgan_jax.evaluation.compare import CompletionsFolder
from uctgan_jax.evaluation.evaluate import (
    Complete,
    Reconstruct,
    evaluate,
    measure_pictures,
    model,
)
from uctgan_jax.evaluation.extractors import Extractor
from uctgan_jax.evaluation.provenance import environment
from uctgan_jax.evaluation.shown import choose_pictures, contact_sheets
from uctgan_jax.files import held_alone
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.processes import together


@dataclasses.dataclass(frozen=True)
class TestSet:
    """The pictures with their holes, the same for every system.

    Attributes:
        batches: gives the batches anew with every call, as `evaluate` takes them; or with
            `process_index` and `process_count` a share of them.
        num_examples: the number of pictures.
    """

    batches: Callable[..., Iterator[dict[str, np.ndarray]]]
    num_examples: int


def open_test_set(config: ml_collections.ConfigDict, split: str) -> TestSet:
    """The pictures that a config names, of one split; errors as `open_source`."""
    source = open_source(
        config.data.source,
        split=split,
        image_size=config.image_size,
        data_dir=config.data.dir,
        avatars_examples=tuple(config.data.avatars_examples),
        max_corrupt=config.data.max_corrupt,
    )
    num_examples = min(config.eval.num_examples, len(source))
    batches = functools.partial(
        eval_batches,
        source,
        image_size=config.image_size,
        batch_size=config.eval.batch_size,
        masks=MaskOptions(**config.mask),
        seed=config.eval.seed,
        num_examples=num_examples,
    )
    return TestSet(batches, num_examples)


@dataclasses.dataclass(frozen=True)
class System:
    """What completes pictures: a model, or another program by way of its files.

    Attributes:
        name: for people.
        digest: of what it is, for the evaluation cache.
        complete, reconstruct: as for `evaluate`.
    """

    name: str
    digest: str
    complete: Complete
    reconstruct: Reconstruct | None = None


class CompletionProtocol:
    """Measures systems by the same pictures, holes and seeds."""

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        test_set: TestSet,
        *,
        extractor: Extractor | None,
        cache_folder: Path,
    ):
        """Takes the config of data and evaluation, and the pictures that it names.

        Args:
            config: `eval` and `mask` are read.
            test_set: see `open_test_set`.
            extractor: for the figures over sets; without it there are none.
            cache_folder: for measurements, so that an interrupted evaluation goes on. Several
                processes share it.
        """
        self._test_set, self._extractor = test_set, extractor
        self._batch_size = config.eval.batch_size
        self._cache_folder = cache_folder
        num_samples, mask = config.eval.num_samples, config.mask
        all_pairs = num_samples * (num_samples - 1) // 2
        one_share = mask.kind == "center" and len(set(mask.hole_share)) == 1
        self._options = {
            "num_samples": num_samples,
            "num_pairs": min(config.eval.get("num_pairs", 50), all_pairs) or None,
            "same_hole": mask.kind == "window" or one_share,
            "seed": config.eval.seed,
        }

    def run(
        self,
        inpainter: Inpainter,
        earlier: list[Inpainter],
        folders: dict[str, CompletionsFolder],
    ) -> tuple[dict, dict[str, np.ndarray]] | None:
        """Measures a model and what is to stand beside it.

        On several processes each measures its share of the batches. The first one then goes through
        all of them, and finds the measurements in the cache.

        Args:
            inpainter: the model.
            earlier: earlier checkpoints of it, the oldest first, for the curves over training.
            folders: name -> another program's completions.

        Returns:
            The model's report, see `evaluate`, with `shown` (see `choose_pictures`), `training` (a
            point for each checkpoint, if there are earlier ones) and `compared` (name -> a report,
            if there are folders); and title -> contact sheet, uint8 [H, W, 3]. None in all
            processes but the first.

        Raises:
            ValueError: if another evaluation uses the cache's folder, or as `evaluate`.
            OSError: if the cache cannot be written, or another process has failed.
        """
        folder, is_first = self._cache_folder, jax.process_index() == 0
        with contextlib.ExitStack() as held:
            with together("cache opened"):
                folder.mkdir(parents=True, exist_ok=True)
                if is_first:
                    busy = f"{folder}: another evaluation with this --output is going on"
                    held.enter_context(held_alone(folder, busy=busy))
                    merge_files(folder)
            if jax.process_count() > 1:
                with together("shares measured"):
                    for system in self._systems(inpainter, earlier, folders):
                        self._measure_share(system, inpainter.devices)
            with together("report made"):
                if not is_first:
                    return None
                merge_files(folder)
                return self._report(inpainter, earlier, folders)

    def measure(self, system: System, devices: Sequence[jax.Device]) -> dict:
        """A system's part of the report, see `evaluate`, with `shown`: see `choose_pictures`.

        Only for a cache folder that no other evaluation uses.

        Args:
            system: what completes.
            devices: to measure on.

        Raises:
            ValueError: as `evaluate`.
        """
        part, measurements = evaluate(
            system.complete, self._test_set.batches(), **self._arguments(system, devices)
        )
        return part | {"shown": choose_pictures(measurements)}

    def _report(self, inpainter, earlier, folders) -> tuple[dict, dict[str, np.ndarray]]:
        *before, own = self._systems(inpainter, earlier, {})
        points = [
            at_step(checkpoint, self.measure(system, inpainter.devices))
            for checkpoint, system in zip(earlier, before, strict=True)
        ]
        report = self.measure(own, inpainter.devices)
        if points:
            report["training"] = [*points, at_step(inpainter, report)]
        sheets = self._sheets(own, report)
        for system in self._systems(inpainter, [], folders)[1:]:
            part = self.measure(system, inpainter.devices)
            kept = ("figures", "by_hole_share", "sets", "shown")
            compared = {key: part[key] for key in kept if key in part}
            report.setdefault("compared", {})[system.name] = compared | {"digest": system.digest}
            for title, sheet in self._sheets(system, part).items():
                sheets[f"{system.name}, {title}"] = sheet
        if self._extractor is not None:
            report["features"] = self._extractor.details
        return report, sheets

    def _systems(self, inpainter, earlier, folders) -> list[System]:
        """Earlier checkpoints, the model, other programs."""
        return [
            *(self._system(f"step {checkpoint.step}", checkpoint) for checkpoint in earlier),
            self._system("model", inpainter),
            *(System(name, folder.digest, folder.complete) for name, folder in folders.items()),
        ]

    def _system(self, name: str, inpainter: Inpainter) -> System:
        complete = model(inpainter, self._options["num_samples"], self._options["seed"])
        return System(name, inpainter.digest, complete, inpainter.reconstruct)

    def _measure_share(self, system: System, devices) -> None:
        """Puts what this process measures into the cache."""
        index, count = jax.process_index(), jax.process_count()
        arguments = self._arguments(system, devices, process=index)
        arguments["num_examples"] = -(-self._test_set.num_examples // count)  # about
        for _ in measure_pictures(
            system.complete,
            self._test_set.batches(process_index=index, process_count=count),
            batch_size=min(self._batch_size, self._test_set.num_examples),
            **arguments,
        ):
            pass  # The cache has it.

    def _arguments(self, system: System, devices, process: int = 0) -> dict[str, Any]:
        """What `evaluate` and `measure_pictures` take alike."""
        identity = {
            "completions_of": system.digest,
            "features": self._extractor and self._extractor.details,
            "versions": environment()["versions"],
        }
        cache = EvaluationCache(self._cache_folder, self._options | identity, process)
        if len(cache) and process == 0:
            print(f"{system.name}: {len(cache)} pictures were measured before, in {cache.path}")
        return self._options | {
            "num_examples": self._test_set.num_examples,
            "reconstruct": system.reconstruct,
            "extractor": self._extractor,
            "cache": cache,
            "devices": devices,
            "name": system.name,
        }

    def _sheets(self, system: System, part: dict) -> dict[str, np.ndarray]:
        return contact_sheets(system.complete, self._test_set.batches(), part["shown"])


def at_step(inpainter: Inpainter, part: dict) -> dict:
    """A checkpoint's point of the curves over training."""
    kept = {key: part[key] for key in ("figures", "sets") if key in part}
    return {"step": int(inpainter.step), "digest": inpainter.digest, **kept}
