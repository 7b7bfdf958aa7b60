"""Exports a model: its weights alone, or as one file that runs without this package.

    python -m uctgan_jax.export --checkpoint=DIR --output=FOLDER
    python -m uctgan_jax.export --checkpoint=DIR --output=model.stablehlo
    python -m uctgan_jax.export --checkpoint=DIR --output=model.onnx

A name without ending becomes a folder of weights and config, which `Inpainter.load` opens. Else the
ending decides on the format, see `uctgan_jax.export.export_model`.
"""

from absl import flags

from uctgan_jax import command_line
from uctgan_jax.export.export_model import check_output, export_model
from uctgan_jax.inpainting.inpainter import Inpainter

FLAGS = flags.FlagValues()
_CHECKPOINT = command_line.define_path(
    "checkpoint", None, "The model, as for inpaint.py.", FLAGS, required=True
)
_OUTPUT = command_line.define_path(
    "output", None, "A .stablehlo or .onnx file, or a folder.", FLAGS, required=True
)


def _export() -> None:
    output = _OUTPUT.value
    check_output(output)  # before the model is loaded
    command_line.prepare_jax()
    inpainter = Inpainter.load(_CHECKPOINT.value)
    if output.suffix == ".onnx":
        print("converting to ONNX, which takes half a minute or more", flush=True)
    export_model(inpainter, output)
    described = f" and its description {output}.json" if output.suffix else ""
    print(f"wrote {output}{described}")


if __name__ == "__main__":
    command_line.run(_export, FLAGS)
