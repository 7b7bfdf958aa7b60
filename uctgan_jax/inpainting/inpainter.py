"""Inpainting: load a model once, complete many pictures, each in many ways."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import ml_collections
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

from uctgan_jax import images as host_images
from uctgan_jax.data.masks import MaskOptions, least_hole_share
from uctgan_jax.inpainting.blending import paste
from uctgan_jax.inpainting.boundary import clean_surroundings, coverage_of_array, hole_of
from uctgan_jax.inpainting.sampler import (
    complete_codes,
    draw_codes,
    generate_pictures,
    project_pictures,
    realism,
    reconstruct_pictures,
    sample_normal,
)
from uctgan_jax.inpainting.selection import (
    check_selection,
    choose,
    nearest_distances,
    pair_distances,
)
from uctgan_jax.inpainting.windows import Window, largest_hole, place_windows, view, whole
from uctgan_jax.saved_models import build_model, check_params, read_model
from uctgan_jax.weights import write_weights

Array = jax.Array
PyTree = Any

_CODES_AT_ONCE = 8  # over all devices, of one view


@dataclass(frozen=True)
class Completions:
    """What `Inpainter.complete` returns: K completions of one picture.

    Attributes:
        images: uint8 [K, H, W, 3]; outside the hole every pixel is the picture's own.
        codes: float32 [K, Z], the code of each; `complete(..., codes=codes)` gives them again.
        realism: float32 [K], see `Inpainter.realism`; NaN if the model cannot judge it.
        difference: float32 [K], LPIPS in the hole to the nearest other completion, see
            `selection.pair_distances`; NaN for a single completion.
    """

    images: np.ndarray
    codes: np.ndarray
    realism: np.ndarray
    difference: np.ndarray


class Inpainter:
    """A trained model that completes pictures.

    Attributes:
        config: the configuration it was trained with.
        step: the training step it comes from.
        digest: SHA-256 of its parameters.
        image_size: the side of the square pictures it works on.
        devices: those that every batch is spread over.
        networks: E1, E2, G and D as modules.
        prior: of codes, given the masked picture.
        params: those of the networks and of a learned prior, on every device.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        params: PyTree,
        step: int,
        digest: str,
        devices: Sequence[jax.Device] | None = None,
        source: str = "the model",
    ):
        """Builds a model from a config and parameters; see also `load`.

        Args:
            config: of the run.
            params: `{"projection", "encoder", "generator"}`, "prior" for a learned one, and
                "discriminator", without which completions cannot be ranked.
            step: the training step they come from.
            digest: their SHA-256.
            devices: to work on; all of this process unless told otherwise.
            source: where it is, for errors.

        Raises:
            OtherNetworksError: if the parameters are not those that the config describes.
        """
        self.config = config
        self.step = step
        self.digest = digest
        self.image_size = config.image_size
        self.networks, self.prior = build_model(config.to_dict(), source=source)
        check_params(params, self.networks, self.prior, source=source)
        self.devices = tuple(devices or jax.local_devices())
        mesh = Mesh(np.asarray(self.devices), ("batch",))
        self._split = NamedSharding(mesh, PartitionSpec("batch"))
        self.params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
        self._sample = jax.jit(self._sample_codes, static_argnames="num_samples")
        self._complete, self._generate_pictures, self._project = (
            jax.jit(functools.partial(function, self.networks, self.prior))
            for function in (complete_codes, generate_pictures, project_pictures)
        )
        self._reconstruct, self._judge = (
            jax.jit(functools.partial(function, self.networks))
            for function in (reconstruct_pictures, realism)
        )

    @property
    def code_dim(self) -> int:
        """Size Z of a code."""
        return self.networks.code_dim

    @functools.cached_property
    def judges_realism(self) -> bool:
        """Whether there is a trained D, which `realism` and selecting by it need."""
        layers = flax.traverse_util.flatten_dict(self.params.get("discriminator", {}))
        # They begin at 0, and its first step moves them.
        return any(np.any(array) for path, array in layers.items() if path[-1] == "bias")

    @classmethod
    def load(cls, path: str | Path, step: int | None = None) -> Inpainter:
        """Loads a trained model.

        Args:
            path: a run's `workdir`, its folder of checkpoints, one checkpoint in it, a folder that
                `save` wrote, or the name of a model that comes with the package
                (`bundled_models`).
            step: which checkpoint of a run; None for the newest.

        Raises:
            FileNotFoundError: if there is no such model or checkpoint.
            DamagedCheckpointError: if it is damaged.
            OtherNetworksError: if it is of another version of this code.
        """
        params, config, step, digest = read_model(path, step)
        return cls(ml_collections.ConfigDict(config), params, step, digest, source=str(path))

    def on_device(self, device: jax.Device) -> Inpainter:
        """The same model on one device alone."""
        return Inpainter(self.config, self.params, self.step, self.digest, devices=[device])

    def save(self, folder: str | Path) -> None:
        """Writes the model alone, without what only training needs: see `uctgan_jax.weights`.

        Args:
            folder: where to; made if missing. `load` opens it.

        Raises:
            ValueError: if a parameter is beyond what float16 holds.
        """
        params, config = jax.device_get(self.params), json.loads(self.config.to_json())
        write_weights(Path(folder), params, config, self.step)

    def sample(
        self, images: np.ndarray, masks: np.ndarray, keys: Array, num_samples: int
    ) -> np.ndarray:
        """Completes pictures of the model's size with codes from N(0, I).

        Args:
            images: uint8 [B, S, S, 3].
            masks: uint8 [B, S, S, 1], 1 = hole.
            keys: `jax.random.key` array [B]; a picture's completions depend on its own key only.
            num_samples: K.

        Returns:
            uint8 [B, K, S, S, 3], known pixels as they are.

        Raises:
            ValueError: if pictures or masks have another type, shape or range, or there is not one
                key for each.
        """
        _check_integer("num_samples", num_samples, 1)
        count = len(keys) if np.ndim(keys) else "a single one"
        if count != len(images):
            raise ValueError(f"keys ({count}) must be one for each picture ({len(images)})")
        return self._spread(self._sample, images, masks, keys, num_samples=num_samples)

    def complete_with(self, images: np.ndarray, masks: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Completes pictures of the model's size with given codes, float32 [B, K, Z].

        Returns:
            uint8 [B, K, S, S, 3], known pixels as they are.

        Raises:
            ValueError: as `sample`, or if codes have another shape.
        """
        codes = np.asarray(codes)
        if codes.ndim != 3 or len(codes) != len(images) or codes.shape[2] != self.code_dim:
            raise ValueError(f"codes {codes.shape} must be [{len(images)}, K, {self.code_dim}]")
        return self._spread(self._complete, images, masks, codes)

    def project(self, images: Sequence[np.ndarray] | np.ndarray, mask: np.ndarray) -> np.ndarray:
        """The codes of pictures, to complete another with: see `project_pictures`.

        Args:
            images: pictures, uint8 [h, w, 3] of any size; the model sees the central square of
                each.
            mask: of the picture to complete, as for `complete`. What the pictures show in its
                largest hole is what their codes tell.

        Returns:
            float32 [B, Z].

        Raises:
            ValueError: if there are none, one has another type or shape, or the hole is empty or
                covers everything.
        """
        pictures, hole = _check_instances(images), hole_of(coverage_of_array(mask))
        windows = place_windows(hole, self.image_size, self._hole_share())
        window = windows[largest_hole(windows)]
        blank = np.zeros((*hole.shape, 3), np.uint8)
        return self._project_squares(pictures, view(blank, hole, window.box, self.image_size)[1])

    def _project_squares(self, images: Sequence[np.ndarray], mask: np.ndarray) -> np.ndarray:
        """`project` with the mask as the model sees it, uint8 [S, S, 1]."""
        squares = [host_images.resize_and_crop(image, self.image_size) for image in images]
        return self._spread(self._project, np.stack(squares), np.stack([mask] * len(squares)))

    def reconstruct(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Completes each picture with its own code: what the code and the condition hold of it.

        Args:
            images: uint8 [B, S, S, 3], the whole pictures.
            masks: uint8 [B, S, S, 1], 1 = hole.

        Returns:
            uint8 [B, S, S, 3], known pixels as they are.

        Raises:
            ValueError: as `sample`.
        """
        return self._spread(self._reconstruct, images, masks)

    def realism(self, images: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """How real D finds finished completions of the model's size.

        Args:
            images: uint8 [B, S, S, 3], completions.
            masks: uint8 [B, S, S, 1], 1 = hole.

        Returns:
            float32 [B], D's logit: higher is more real. It compares completions of one
            picture; it says little across pictures or models.

        Raises:
            ValueError: as `sample`, or if the model has no trained D, see `judges_realism`.
        """
        if not self.judges_realism:
            raise ValueError(
                "this model cannot judge realism: it was saved without its discriminator, or"
                f" (step {self.step}) before that began to learn"
            )
        return self._spread(self._judge, images, masks)

    def complete(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        num_samples: int = 8,
        seed: int = 0,
        *,
        grow: int = 0,
        temperature: float = 1.0,
        select: str | None = None,
        oversample: int = 4,
        instances: Sequence[np.ndarray] | None = None,
        codes: np.ndarray | None = None,
    ) -> Completions:
        """Completes one picture of any size: in many ways, after given pictures, or by codes.

        There may be any number of holes, see `windows`. Completion k uses code k everywhere. Its
        colours are matched at the rim, see `blending`.

        Args:
            image: uint8 [H, W, 3].
            mask: [H, W] or [H, W, 1], how far each pixel is covered: bool, floats from 0 to 1, or
                grey levels as in a mask file. `boundary` says what is filled.
            num_samples: completions to draw; unused with `instances` or `codes`.
            seed: of the draw: the same seed gives the same completions, and without `select`
                the first of many are those of few.
            grow: by how many pixels the mask is grown in every direction: for a mask that does not
                cover all that is to go.
            temperature: what the codes drawn are multiplied by: under 1 for more likely and more
                similar completions.
            select: which of the draws to keep, the best first: "diverse", "realistic" or "both",
                see `selection.choose`; None for the draws as they come.
            oversample: with `select`, how many are drawn for each that is kept.
            instances: pictures, uint8 [h, w, 3] of any size, to follow: one completion each.
            codes: float32 [K, Z], such as earlier `Completions.codes`: one completion each.

        Raises:
            ValueError: before any work, for an argument of another type, shape or range, and if
                more than one of `instances`, `codes` and `select` is given.
        """
        image, coverage = _check_inputs(image, mask)
        _check_integer("grow", grow, 0)
        hole = hole_of(coverage, grow)
        codes = self._codes(
            num_samples, seed, temperature, select, oversample, instances=instances, codes=codes
        )
        if instances is not None:
            instances = _check_instances(instances)
        windows = place_windows(hole, self.image_size, self._hole_share())
        clean = clean_surroundings(image, coverage, hole, windows)
        views = [view(clean, hole, window.box, self.image_size) for window in windows]
        # Candidates are judged by the largest hole, at the model's resolution.
        main = largest_hole(windows)
        if instances is not None:
            codes = self._project_squares(instances, views[main][1])
        assert codes is not None
        generated = next(self._generate([views[main]], codes))
        realism, distances = self._judge_candidates(*views[main], generated)
        if select is not None:
            kept = choose(select, num_samples, realism=realism, distances=distances)
            codes, generated, realism = codes[kept], generated[kept], realism[kept]
            distances = distances[np.ix_(kept, kept)]

        results = np.repeat(image[None], len(codes), axis=0)
        rest = self._generate(views[:main] + views[main + 1 :], codes)
        windows = [windows.pop(main), *windows]
        self._fill(results, itertools.chain([generated], rest), clean, hole, windows)
        return Completions(results, codes, realism, nearest_distances(distances))

    def _fill(
        self,
        results: np.ndarray,
        generated: Iterable[np.ndarray],
        clean: np.ndarray,
        hole: np.ndarray,
        windows: Sequence[Window],
    ) -> None:
        """Fills each window of K completions, uint8 [K, H, W, 3], from what was made of it."""
        pasted = np.zeros(hole.shape, np.uint16)  # the weights so far
        made = zip(windows, generated, strict=True)
        for window, pictures in tqdm(
            made, total=len(windows), desc="windows", delay=2, leave=False
        ):
            paste(results, pictures, clean, hole, window, pasted)

    def _codes(
        self,
        num_samples: int,
        seed: int,
        temperature: float,
        select: str | None,
        oversample: int,
        *,
        instances: Sequence[np.ndarray] | None,
        codes: np.ndarray | None,
    ) -> np.ndarray | None:
        """The codes that `complete` begins with, float32 [K, Z]; None if instances tell them."""
        if sum(given is not None for given in (instances, codes, select)) > 1:
            raise ValueError(
                "instances, codes and select: give one of them, or none; there is nothing to"
                " select among completions that are all asked for"
            )
        self.check_selection(select, oversample)
        if codes is not None:
            return _check_codes(codes, self.code_dim)
        if instances is not None:
            return None
        _check_integer("num_samples", num_samples, 1)
        _check_integer("seed", seed, 0)
        if not isinstance(temperature, (int, float, np.integer, np.floating)):
            raise ValueError(f"temperature ({temperature!r}) must be at least 0, a number")
        num_draws = num_samples * (oversample if select else 1)
        return draw_codes(num_draws, self.code_dim, seed=seed, temperature=temperature)

    def _judge_candidates(
        self, image: np.ndarray, mask: np.ndarray, generated: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """How real completions of a view are, and how different: float32 [K] and [K, K].

        Args:
            image: uint8 [S, S, 3], what the model sees.
            mask: uint8 [S, S, 1], 1 = hole.
            generated: uint8 [K, S, S, 3], what it makes of it.
        """
        candidates = np.repeat(image[None], len(generated), axis=0)
        paste(candidates, generated, image, mask[..., 0], whole(mask[..., 0]))
        realism = np.full(len(generated), np.nan, np.float32)
        if self.judges_realism:
            realism = self.realism(candidates, np.repeat(mask[None], len(generated), axis=0))
        return realism, pair_distances(candidates, mask)

    def _hole_share(self) -> float:
        """The least share of a window that its hole should have.

        It is the least there was in training: a square picture with such a hole is seen whole, as
        in training. A model that also saw parts of pictures, `data.zoom` times enlarged at most,
        knows holes of up to zoom² times that share. Zoom times as much is in the middle.
        """
        least = min(max(least_hole_share(MaskOptions(**self.config.mask)), 1 / 16), 1 / 4)
        return min(least * self.config.data.zoom, 1 / 2)

    def _generate(
        self, views: Sequence[tuple[np.ndarray, np.ndarray]], codes: np.ndarray
    ) -> Iterator[np.ndarray]:
        """What the model makes of each view with each code, known pixels included.

        Work goes to the devices in rows of one view and up to eight codes, in batches of one or
        four rows a device, filled up where there are fewer: a few programs serve all pictures.

        Args:
            views: pairs of uint8 [S, S, 3] and its mask uint8 [S, S, 1].
            codes: float32 [K, Z].

        Yields:
            uint8 [K, S, S, 3], one for each view.
        """
        spread = len(self.devices)
        chunk = max(1, _CODES_AT_ONCE // spread)
        while chunk >= 2 * len(codes):
            chunk //= 2
        parts = -(-len(codes) // chunk)
        padded = codes[np.minimum(np.arange(parts * chunk), len(codes) - 1)]
        padded = padded.reshape(parts, chunk, -1)
        rows = [(number, part) for number in range(len(views)) for part in range(parts)]
        done: list[np.ndarray] = []  # rows of views that are not complete yet
        while rows:
            size = spread if len(rows) <= 2 * spread else 4 * spread
            batch, rows = rows[:size], rows[size:]
            filled = batch + batch[-1:] * (size - len(batch))
            images, masks = (np.stack([views[n][i] for n, _ in filled]) for i in (0, 1))
            pictures = self._spread(
                self._generate_pictures, images, masks, padded[[part for _, part in filled]]
            )
            done.extend(pictures[: len(batch)])
            while len(done) >= parts:
                yield np.concatenate(done[:parts])[: len(codes)]
                del done[:parts]

    def check_selection(self, select: str | None, oversample: int = 4) -> None:
        """Raises a ValueError unless `complete` can select like this."""
        check_selection(select)
        if select is None:
            return
        _check_integer("oversample", oversample, 1)
        if select != "diverse" and not self.judges_realism:
            raise ValueError(
                f"select ({select!r}) needs a model with a trained discriminator, which this one"
                " lacks: only 'diverse' does without"
            )

    def _spread(
        self, function: Callable, images: np.ndarray, masks: np.ndarray, *others: Any, **static: int
    ) -> np.ndarray:
        """Calls a compiled function with each array's rows split evenly over the devices.

        A batch that does not divide is filled up with its last row, which costs no time: the
        devices with fewer rows would wait for the others.
        """
        images, masks = np.asarray(images), np.asarray(masks)
        _check_batch(images, masks, self.image_size)
        arrays, batch_size = (images, masks, *others), len(images)
        missing = -batch_size % len(self.devices)
        if missing:
            rows = np.minimum(np.arange(batch_size + missing), batch_size - 1)
            arrays = tuple(array[rows] for array in arrays)
        arrays = jax.device_put(arrays, self._split)
        return np.asarray(function(self.params, *arrays, **static))[:batch_size]

    def _sample_codes(
        self, params: PyTree, images: Array, masks: Array, keys: Array, num_samples: int
    ) -> Array:
        codes = sample_normal(keys, num_samples, self.code_dim)
        return complete_codes(self.networks, self.prior, params, images, masks, codes)


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or not image.size:
        raise ValueError(f"image ({image.dtype} {image.shape}) must be uint8 [H, W, 3]")


def _check_batch(images: np.ndarray, masks: np.ndarray, size: int) -> None:
    """Raises a ValueError unless they are uint8 [B, S, S, 3] and [B, S, S, 1] of 0 and 1."""
    shape = (len(images), size, size, 3) if images.ndim else None
    if images.dtype != np.uint8 or images.shape != shape or not images.size:
        raise ValueError(
            f"images ({images.dtype} {images.shape}) must be uint8 [B, {size}, {size}, 3]"
        )
    if masks.dtype != np.uint8 or masks.shape != (len(images), size, size, 1):
        raise ValueError(
            f"masks ({masks.dtype} {masks.shape}) must be uint8 [{len(images)}, {size}, {size}, 1]"
        )
    if masks.max() > 1:
        raise ValueError(f"masks (a value of {masks.max()}) must be 1 in the hole and 0 elsewhere")


def _check_inputs(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The picture uint8 [H, W, 3] and its mask's coverage uint8 [H, W], or a ValueError."""
    image = np.asarray(image)
    _check_image(image)
    coverage = coverage_of_array(mask)
    if coverage.shape != image.shape[:2]:
        raise ValueError(
            f"mask {np.shape(mask)} must have the picture's height and width {image.shape[:2]}"
        )
    return image, coverage


def _check_instances(images: Sequence[np.ndarray] | np.ndarray) -> list[np.ndarray]:
    """Pictures of any size, uint8 [h, w, 3] each, or a ValueError."""
    if not np.iterable(images):
        raise ValueError(f"images ({images!r}) must be a list of pictures, uint8 [h, w, 3]")
    images = [np.asarray(image) for image in images]
    if not images:
        raise ValueError("images ([]) must hold one picture or more")
    for image in images:
        _check_image(image)
    return images


def _check_integer(name: str, value: int, lowest: int) -> None:
    whole_number = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole_number or value < lowest:
        raise ValueError(f"{name} ({value!r}) must be at least {lowest}, and a whole number")


def _check_codes(codes: np.ndarray, code_dim: int) -> np.ndarray:
    """Codes as float32 [K, Z], or a ValueError."""
    try:
        codes = np.asarray(codes, np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"codes ({codes!r}) must be float32 [K, {code_dim}]") from None
    if codes.ndim != 2 or not len(codes) or codes.shape[1] != code_dim:
        raise ValueError(f"codes {codes.shape} must be [K, {code_dim}] with K of 1 or more")
    if not np.isfinite(codes).all():
        raise ValueError("codes must be finite numbers")
    return codes
