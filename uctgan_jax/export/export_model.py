"""A model as one file that runs without this package, or its weights alone.

The formats are StableHLO for JAX (`jax.export`; CPU, CUDA and TPU) and ONNX for ONNX Runtime (needs
the extra `onnx`). Either holds the parameters and one function,

    images uint8 [B, S, S, 3], masks uint8 [B, S, S, 1] with 1 = hole, codes float32 [B, K, Z]
        -> completions uint8 [B, K, S, S, 3], known pixels as they are

for any B and K from 1 on. S, Z and where the model comes from are in `OUTPUT.json` beside it.
`examples/run_exported.py` runs a StableHLO file; `python -m uctgan_jax.export` writes either.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import einops
import jax
import jax.numpy as jnp
from jax import export
from jax.extend.core import jaxpr_as_fun

from uctgan_jax import quiet
from uctgan_jax.files import make_writable, write_atomically, write_text
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.inpainting.sampler import complete_codes
from uctgan_jax.nets import blocks
from uctgan_jax.saved_models import build_model

PLATFORMS = ("cpu", "cuda", "tpu")
INPUTS = ("images", "masks", "codes")
OUTPUT = "completions"
# Old enough for any ONNX Runtime of the last years; nothing newer is needed.
ONNX_OPSET = 18


def to_stablehlo(inpainter: Inpainter) -> bytes:
    """The model as a serialized `jax.export.Exported`."""
    function = _completing_function(inpainter, inpainter.config.compute_dtype)
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*_input_shapes(inpainter))
    return bytes(exported.serialize())


def to_onnx(inpainter: Inpainter) -> bytes:
    """The model as a serialized ONNX `ModelProto`.

    It computes in float32 whatever the model's compute type: ONNX Runtime has no bfloat16
    convolutions on CPUs.

    Raises:
        ImportError: if the extra `onnx` is not installed.
    """
    try:
        import jax2onnx
    except ImportError as error:
        raise ImportError(f"ONNX needs the extra 'onnx' of this package ({error})") from error

    shapes = _input_shapes(inpainter)
    # Traced before the converter sees it: that replaces Flax's layers by ones without vmap.
    # ONNX cannot pad between elements, as the networks' own form of doubling does.
    with mock.patch.object(blocks, "upsample", _repeat):
        jaxpr = jax.make_jaxpr(_completing_function(inpainter, "float32"))(*shapes)
    # The converter warns of every value whose type it leaves to be inferred.
    with quiet.errors_alone("jax2onnx", "onnx_ir"):
        model = jax2onnx.to_onnx(
            jaxpr_as_fun(jaxpr),
            inputs=shapes,
            model_name="uctgan",
            opset=ONNX_OPSET,
            input_names=INPUTS,
            output_names=[OUTPUT],
        )
    return model.SerializeToString()


FORMATS: dict[str, Callable[[Inpainter], bytes]] = {".stablehlo": to_stablehlo, ".onnx": to_onnx}
DETAILS: dict[str, dict[str, Any]] = {
    ".stablehlo": {
        "format": "StableHLO",
        "platforms": PLATFORMS,
        "calling_convention_version": export.maximum_supported_calling_convention_version,
    },
    ".onnx": {"format": "ONNX", "opset": ONNX_OPSET},
}


def export_model(inpainter: Inpainter, output: str | Path) -> None:
    """Writes a model to `output`, and the description of a file to `output` with `.json` added.

    Args:
        inpainter: the model.
        output: a file ending in `.stablehlo` or `.onnx`; or, without ending, a folder for the
            weights alone.

    Raises:
        ValueError: for another ending, or for a folder if a parameter is beyond what float16 holds.
        ImportError: if ONNX's packages are missing.
        OSError: if `output` cannot be written.
    """
    output = Path(output)
    check_output(output)
    if not output.suffix:
        inpainter.save(output)
        return
    make_writable(output.parent)
    description = DETAILS[output.suffix] | describe(inpainter)
    data = FORMATS[output.suffix](inpainter)
    with write_atomically(output) as file:
        file.write(data)
    write_text(output.with_name(output.name + ".json"), json.dumps(description, indent=2) + "\n")


def describe(inpainter: Inpainter) -> dict[str, Any]:
    """The description beside an exported model: its inputs and output, and where it comes from."""
    shapes = _input_shapes(inpainter)
    function = _completing_function(inpainter, inpainter.config.compute_dtype)
    completions = jax.eval_shape(function, *shapes)
    return {
        "image_size": inpainter.image_size,
        "code_dim": inpainter.code_dim,
        "inputs": {name: _describe(shape) for name, shape in zip(INPUTS, shapes, strict=True)},
        "outputs": {OUTPUT: _describe(completions)},
        "mask": "1 = hole",
        "codes": "standard normal",
        "step": inpainter.step,
        "digest": inpainter.digest,
        "jax": jax.__version__,
    }


def _describe(array: jax.ShapeDtypeStruct) -> dict[str, Any]:
    shape = [side if isinstance(side, int) else str(side) for side in array.shape]
    return {"dtype": str(array.dtype), "shape": shape}


def _completing_function(inpainter: Inpainter, compute_dtype: str) -> Callable[..., jax.Array]:
    """`complete_codes` with the parameters inside."""
    config = inpainter.config.to_dict() | {"compute_dtype": compute_dtype}
    networks, prior = build_model(config, source="the model")
    params = jax.device_get(
        {
            name: params
            for name, params in inpainter.params.items()
            if name in ("encoder", "prior", "generator")
        }
    )

    def complete(images: jax.Array, masks: jax.Array, codes: jax.Array) -> jax.Array:
        return complete_codes(networks, prior, params, images, masks, codes)

    return complete


def _input_shapes(inpainter: Inpainter) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Images, masks and codes of any number of pictures B and codes a picture K."""
    batch, samples = export.symbolic_shape("B, K")
    side = inpainter.image_size
    return (
        jax.ShapeDtypeStruct((batch, side, side, 3), jnp.uint8),
        jax.ShapeDtypeStruct((batch, side, side, 1), jnp.uint8),
        jax.ShapeDtypeStruct((batch, samples, inpainter.code_dim), jnp.float32),
    )


def check_output(output: Path) -> None:
    """Raises a ValueError for a name that `export_model` knows no format for."""
    if output.suffix and output.suffix not in FORMATS:
        raise ValueError(
            f"output ({output}) must end in {' or '.join(FORMATS)}, or have no ending, for a folder"
        )


def _repeat(x: jax.Array) -> jax.Array:
    """`blocks.upsample` in another form: every row and column twice."""
    return einops.repeat(x, "b h w c -> b (h p) (w q) c", p=2, q=2)
