"""Exported models: the same numbers without this package, for any number of pictures and codes."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import jax
import ml_collections
import numpy as np
import onnxruntime
import pytest
from jax import export as jax_export

from tests.conftest import TINY_MODEL, run_config
from uctgan_jax.export import export_model as export
from uctgan_jax.images import read_image, write_image
from uctgan_jax.inpainting.inpainter import Inpainter
from uctgan_jax.inpainting.sampler import draw_codes

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "run_exported.py"
ANY_PLATFORM = {"shape_assertion"}


@pytest.fixture(scope="module")
def inpainter(networks) -> Inpainter:
    """A model with attention: gamma starts at 0, which would hide it."""
    params = jax.jit(networks.init_generator)(jax.random.key(0))
    params["generator"]["CrossSemanticAttention_0"]["gamma"] += 1.0
    config = run_config("unused")
    return Inpainter(config, params, step=7, digest="abc", devices=jax.local_devices()[:1])


@pytest.fixture(scope="module")
def stablehlo(inpainter, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("export") / "model.stablehlo"
    export.export_model(inpainter, output)
    return output


def inputs(batch_size: int, num_samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(batch_size)
    images = rng.integers(0, 256, (batch_size, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((batch_size, 32, 32, 1), np.uint8)
    masks[:, 8:20, 4:24] = 1
    codes = rng.standard_normal((batch_size, num_samples, TINY_MODEL["code_dim"]), np.float32)
    return images, masks, codes


def test_stablehlo_has_the_models_numbers(inpainter, stablehlo):
    arrays = inputs(batch_size=2, num_samples=2)
    exported = jax_export.deserialize(bytearray(stablehlo.read_bytes()))
    completions = exported.call(*arrays)
    assert completions.shape == (2, 2, 32, 32, 3)
    np.testing.assert_array_equal(completions, inpainter.complete_with(*arrays))


def test_stablehlo_is_for_every_platform(stablehlo):
    exported = jax_export.deserialize(bytearray(stablehlo.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    calls = re.findall(r"custom_call @(\w+)", exported.mlir_module())
    assert set(calls) <= ANY_PLATFORM


def test_description(inpainter, stablehlo):
    description = json.loads(Path(f"{stablehlo}.json").read_text())
    exported = jax_export.deserialize(bytearray(stablehlo.read_bytes()))
    shapes = [tuple(str(side) for side in argument.shape) for argument in exported.in_avals]
    described = [tuple(str(side) for side in x["shape"]) for x in description["inputs"].values()]
    assert described == shapes
    assert description["outputs"] == {
        "completions": {"dtype": "uint8", "shape": ["B", "K", 32, 32, 3]}
    }
    assert (description["step"], description["digest"]) == (7, "abc")
    assert description["calling_convention_version"] == exported.calling_convention_version


def test_the_example_needs_nothing_of_this_package(inpainter, stablehlo, tmp_path):
    """The example, run by a Python that cannot import us, Flax or Orbax, completes as we do."""
    images, masks, _ = inputs(batch_size=1, num_samples=3)
    write_image(tmp_path / "picture.png", images[0])
    write_image(tmp_path / "mask.png", np.repeat(255 * masks[0], 3, axis=-1))
    program = (
        "import runpy, sys\n"
        "for name in ('uctgan_jax', 'flax', 'orbax', 'ml_collections'): sys.modules[name] = None\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    names = ("picture.png", "mask.png", "out")
    command = [sys.executable, "-I", "-c", program, EXAMPLE, stablehlo]
    command += [*(tmp_path / name for name in names), "3", "5"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    codes = draw_codes(3, inpainter.code_dim, seed=5)[None]
    expected = inpainter.complete_with(images, masks, codes)[0]
    for number, completion in enumerate(expected):
        np.testing.assert_array_equal(
            read_image(tmp_path / "out" / f"{number:03d}.png"), completion
        )


@pytest.fixture(scope="module")
def onnx(inpainter) -> onnxruntime.InferenceSession:
    """Converted from the model with another compute type, which ONNX Runtime does not have."""
    config = ml_collections.ConfigDict(inpainter.config)
    config.compute_dtype = "bfloat16"
    model = Inpainter(config, inpainter.params, step=0, digest="", devices=inpainter.devices)
    return onnxruntime.InferenceSession(export.to_onnx(model))


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "num_samples"), [(1, 3), (2, 2)])
def test_onnx_has_the_models_numbers(inpainter, onnx, batch_size, num_samples):
    arrays = inputs(batch_size, num_samples)
    (completions,) = onnx.run(["completions"], dict(zip(export.INPUTS, arrays, strict=True)))
    expected = inpainter.complete_with(*arrays)
    assert completions.shape == expected.shape and completions.dtype == np.uint8
    assert np.abs(completions.astype(int) - expected).max() <= 1
    known = np.broadcast_to(arrays[1][:, None] == 0, expected.shape)
    np.testing.assert_array_equal(completions[known], expected[known])


@pytest.mark.slow
def test_converting_leaves_the_log_levels_as_they_were(onnx):
    assert logging.getLogger("onnx_ir").level == logging.NOTSET


def command_line(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "uctgan_jax.export", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_another_ending_is_one_line_before_the_model_is_loaded(inpainter, tmp_path):
    with pytest.raises(ValueError, match=r"model.pt\) must end in .stablehlo or .onnx"):
        export.export_model(inpainter, tmp_path / "model.pt")
    end = command_line("--checkpoint=nowhere", f"--output={tmp_path}/model.pt")
    assert end.returncode == 1 and end.stderr.startswith("export: output (")


def test_a_name_without_ending_becomes_the_weights_alone(inpainter, tmp_path):
    export.export_model(inpainter, tmp_path / "copy")
    assert Inpainter.load(tmp_path / "copy").digest


@pytest.mark.slow
def test_command_line(inpainter, tmp_path):
    inpainter.save(tmp_path / "weights")
    output = tmp_path / "deep" / "model.stablehlo"
    end = command_line(f"--checkpoint={tmp_path / 'weights'}", f"--output={output}")
    assert end.returncode == 0, end.stderr
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "model.stablehlo",
        "model.stablehlo.json",
    ]
