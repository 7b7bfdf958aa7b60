"""InceptionV3 as FID uses it: pooled features and logits of the network of 2015.

The graph is that of the original TensorFlow network, which differs from InceptionV3 elsewhere in
its pooling and its 1,008 logits. Its weights cannot be bundled: `load_inception` reads the file
`pt_inception-2015-12-05-6726825d.pth`, which the packages pytorch-fid and torch-fidelity
download, from wherever the user keeps it.
"""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from uctgan_jax.evaluation.metrics.check import check_images
from uctgan_jax.evaluation.metrics.torch_file import read_torch_file

INPUT_SIZE = 299
NUM_CLASSES = 1008
_BATCH_NORM_EPSILON = 1e-3

# Modules are named as in the weights file.


class Conv(nn.Module):
    """Convolution and ReLU; batch normalisation is folded into kernel and bias."""

    features: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x):
        strides = (self.stride, self.stride)
        x = nn.Conv(self.features, self.kernel, strides, padding=self.padding, name="conv")(x)
        return nn.relu(x)


def _chain(x, name, *convs):
    """Convolutions one after another, named `name`_1, `name`_2 ... (features, kernel[, stride])."""
    for i, (features, kernel, *stride) in enumerate(convs, 1):
        padding = "VALID" if stride else "SAME"
        x = Conv(features, kernel, *stride, padding=padding, name=f"{name}_{i}")(x)
    return x


def _average_pool(x):
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def _halve(x):
    return nn.max_pool(x, (3, 3), (2, 2))


class BlockA(nn.Module):
    pool_features: int

    @nn.compact
    def __call__(self, x):
        branches = [
            Conv(64, (1, 1), name="branch1x1")(x),
            _chain(x, "branch5x5", (48, (1, 1)), (64, (5, 5))),
            _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
            Conv(self.pool_features, (1, 1), name="branch_pool")(_average_pool(x)),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockB(nn.Module):
    @nn.compact
    def __call__(self, x):
        branches = [
            Conv(384, (3, 3), 2, "VALID", name="branch3x3")(x),
            _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3), 2)),
            _halve(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockC(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        w = self.width
        row, column = (1, 7), (7, 1)
        double = [(w, (1, 1)), (w, column), (w, row), (w, column), (192, row)]
        branches = [
            Conv(192, (1, 1), name="branch1x1")(x),
            _chain(x, "branch7x7", (w, (1, 1)), (w, row), (192, column)),
            _chain(x, "branch7x7dbl", *double),
            Conv(192, (1, 1), name="branch_pool")(_average_pool(x)),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockD(nn.Module):
    @nn.compact
    def __call__(self, x):
        long = [(192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2)]
        branches = [
            _chain(x, "branch3x3", (192, (1, 1)), (320, (3, 3), 2)),
            _chain(x, "branch7x7x3", *long),
            _halve(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class BlockE(nn.Module):
    max_pool: bool  # the last block pools by maximum

    @nn.compact
    def __call__(self, x):
        short = Conv(384, (1, 1), name="branch3x3_1")(x)
        long = _chain(x, "branch3x3dbl", (448, (1, 1)), (384, (3, 3)))
        pooled = nn.max_pool(x, (3, 3), padding="SAME") if self.max_pool else _average_pool(x)
        branches = [
            Conv(320, (1, 1), name="branch1x1")(x),
            Conv(384, (1, 3), name="branch3x3_2a")(short),
            Conv(384, (3, 1), name="branch3x3_2b")(short),
            Conv(384, (1, 3), name="branch3x3dbl_3a")(long),
            Conv(384, (3, 1), name="branch3x3dbl_3b")(long),
            Conv(192, (1, 1), name="branch_pool")(pooled),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionV3(nn.Module):
    """float32 [B, 299, 299, 3] in [-1, 1] -> features [B, 2048], logits [B, 1008].

    The logits are without the bias, as in the original Inception score.
    """

    @nn.compact
    def __call__(self, x):
        x = Conv(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
        x = Conv(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = _halve(Conv(64, (3, 3), name="Conv2d_2b_3x3")(x))
        x = Conv(80, (1, 1), name="Conv2d_3b_1x1")(x)
        x = _halve(Conv(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x))
        for name, pool_features in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(pool_features, name=name)(x)
        x = BlockB(name="Mixed_6a")(x)
        for name, width in (
            ("Mixed_6b", 128),
            ("Mixed_6c", 160),
            ("Mixed_6d", 160),
            ("Mixed_6e", 192),
        ):
            x = BlockC(width, name=name)(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE(max_pool=False, name="Mixed_7b")(x)
        x = BlockE(max_pool=True, name="Mixed_7c")(x)
        features = x.mean(axis=(1, 2))
        return features, nn.Dense(NUM_CLASSES, use_bias=False, name="fc")(features)


def load_inception(path: str | Path) -> dict:
    """Parameters for `inception` from a local weights file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a PyTorch file, or holds other tensors than this network's.
    """
    return params_from_state_dict(read_torch_file(path))


def params_from_state_dict(state: dict[str, np.ndarray]) -> dict:
    """Parameters from arrays named as in the weights file: OIHW kernels, batch normalisation apart.

    Raises:
        ValueError: a missing name or another shape.
    """
    shapes = jax.eval_shape(
        InceptionV3().init, jax.random.key(0), jnp.zeros((1, INPUT_SIZE, INPUT_SIZE, 3))
    )["params"]
    params: dict = {}
    for path, shape in jax.tree_util.tree_leaves_with_path(shapes):
        names = [key.key for key in path]
        module = ".".join(names[:-2] if names[-2] == "conv" else names[:-1])
        try:
            value = _parameter(state, module, names[-1])
        except KeyError as error:
            raise ValueError(
                f"The weights file lacks {error}; it is not FID's Inception."
            ) from None
        if value.shape != shape.shape:
            raise ValueError(
                f"{'.'.join(names)} of shape {value.shape} must be {shape.shape}; the weights file "
                "is not FID's Inception."
            )
        place = params
        for name in names[:-1]:
            place = place.setdefault(name, {})
        place[names[-1]] = value.astype(np.float32)
    return params


def _parameter(state, module, leaf):
    if module == "fc":
        return state["fc.weight"].T
    norm = {name: state[f"{module}.bn.{name}"].astype(np.float64) for name in ("weight", "bias")}
    mean = state[f"{module}.bn.running_mean"].astype(np.float64)
    variance = state[f"{module}.bn.running_var"].astype(np.float64)
    scale = norm["weight"] / np.sqrt(variance + _BATCH_NORM_EPSILON)
    if leaf == "bias":
        return norm["bias"] - mean * scale
    return state[f"{module}.conv.weight"].transpose(2, 3, 1, 0) * scale


def inception(params: dict, images) -> tuple[jax.Array, jax.Array]:
    """Features float32 [B, 2048] and logits float32 [B, 1008] of pictures.

    As pytorch-fid computes them: resized to 299 x 299 bilinearly without antialiasing, and used in
    [-1, 1]. Other programs resize and scale in other ways and get slightly other distances.

    Args:
        params: from `load_inception`.
        images: float32 [B, H, W, 3] in [-1, 1].

    Raises:
        ValueError: pictures of another shape, type or range.
    """
    check_images(images)
    return _inception(params, images)


@jax.jit
def _inception(params, images):
    shape = (len(images), INPUT_SIZE, INPUT_SIZE, 3)
    with jax.default_matmul_precision("float32"):
        resized = jax.image.resize(images, shape, "bilinear", antialias=False)
        return InceptionV3().apply({"params": params}, resized)
