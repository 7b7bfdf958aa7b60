"""What a program of one kind does not import of the others."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAINING = ("training", "train_step", "train_state", "fit", "run", "losses", "optimizers", "config",
            "augment", "growth", "validation", "checkpoints", "prior.training", "prior.latents",
            "data.pipeline")  # fmt: skip


def imported(statements: str) -> set[str]:
    """The package's modules that a program has after some statements."""
    code = f"{statements}\nimport sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    prefix = "uctgan_jax."
    names = done.stdout.split("\n")[-2].split()
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


@pytest.mark.parametrize(
    "statements",
    [
        "import uctgan_jax; uctgan_jax.Inpainter.load('avatars32')",
        "import uctgan_jax.inpainting.folder_run, uctgan_jax.export.export_model",
    ],
)
def test_inference_imports_nothing_of_training(statements):
    modules = imported(statements)
    assert "inpainting.inpainter" in modules
    assert not modules & set(TRAINING)


def test_the_training_step_imports_no_learned_prior():
    assert not {m for m in imported("import uctgan_jax.train_step") if m.startswith("prior")}
