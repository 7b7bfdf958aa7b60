"""The protocols `completion` and `paper`: a model, its earlier checkpoints, other programs."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_collections
import numpy as np

from uctgan_jax.data.masks import MaskOptions
from uctgan_jax.data.pipeline import eval_batches
from uctgan_jax.data.sources import open_source
from uctgan_jax.evaluation.cache import EvaluationCache
from uctgan_jax.evaluation.compare import CompletionsFolder
from uctgan_jax.evaluation.evaluate import Complete, Reconstruct, evaluate, model
from uctgan_jax.evaluation.extractors import Extractor
from uctgan_jax.evaluation.provenance import environment
from uctgan_jax.evaluation.shown import choose_pictures, contact_sheets
from uctgan_jax.inpainting.inpainter import Inpainter


@dataclasses.dataclass(frozen=True)
class TestSet:
    """The pictures with their holes, the same for every system.

    Attributes:
        batches: gives the batches anew with every call, as `evaluate` takes them.
        num_examples: the number of pictures.
    """

    batches: Callable[[], Iterator[dict[str, np.ndarray]]]
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
            cache_folder: for measurements, so that an interrupted evaluation goes on.
        """
        self._test_set, self._extractor = test_set, extractor
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
    ) -> tuple[dict, dict[str, np.ndarray]]:
        """Measures a model and what is to stand beside it.

        Args:
            inpainter: the model.
            earlier: earlier checkpoints of it, the oldest first, for the curves over training.
            folders: name -> another program's completions.

        Returns:
            The model's report, see `evaluate`, with `shown` (see `choose_pictures`), `training` (a
            point for each checkpoint, if there are earlier ones) and `compared` (name -> a report,
            if there are folders); and title -> contact sheet, uint8 [H, W, 3].
        """
        devices = inpainter.devices
        points = []
        for checkpoint in earlier:
            system = self._system(f"step {checkpoint.step}", checkpoint)
            points.append(at_step(checkpoint, self._measure(system, devices)))
        system = self._system("model", inpainter)
        report = self._measure(system, devices)
        if points:
            report["training"] = [*points, at_step(inpainter, report)]
        sheets = self._sheets(system, report)
        for name, folder in folders.items():
            system = System(name, folder.digest, folder.complete)
            part = self._measure(system, devices)
            kept = ("figures", "by_hole_share", "sets", "shown")
            compared = {key: part[key] for key in kept if key in part}
            report.setdefault("compared", {})[name] = compared | {"digest": folder.digest}
            for title, sheet in self._sheets(system, part).items():
                sheets[f"{name}, {title}"] = sheet
        if self._extractor is not None:
            report["features"] = self._extractor.details
        return report, sheets

    def _system(self, name: str, inpainter: Inpainter) -> System:
        complete = model(inpainter, self._options["num_samples"], self._options["seed"])
        return System(name, inpainter.digest, complete, inpainter.reconstruct)

    def _measure(self, system: System, devices) -> dict:
        """A system's part of the report."""
        identity = {
            "completions_of": system.digest,
            "features": self._extractor and self._extractor.details,
            "versions": environment()["versions"],
        }
        cache = EvaluationCache(self._cache_folder, self._options | identity)
        if len(cache):
            print(f"{system.name}: {len(cache)} pictures were measured before, in {cache.path}")
        part, measurements = evaluate(
            system.complete,
            self._test_set.batches(),
            num_examples=self._test_set.num_examples,
            reconstruct=system.reconstruct,
            extractor=self._extractor,
            cache=cache,
            devices=devices,
            name=system.name,
            **self._options,
        )
        return part | {"shown": choose_pictures(measurements)}

    def _sheets(self, system: System, part: dict) -> dict[str, np.ndarray]:
        return contact_sheets(system.complete, self._test_set.batches(), part["shown"])


def at_step(inpainter: Inpainter, part: dict) -> dict:
    """A checkpoint's point of the curves over training."""
    kept = {key: part[key] for key in ("figures", "sets") if key in part}
    return {"step": int(inpainter.step), "digest": inpainter.digest, **kept}
