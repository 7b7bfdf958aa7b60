"""UCTGAN in JAX: one picture with a hole, many completions.

Conventions, everywhere in the package:

- Pictures are [.., H, W, C], uint8 RGB on the host and float32 in [-1, 1] inside the networks.
- Masks are 1 in the hole and 0 at known pixels; in files white is the hole.
- Known pixels come out bit for bit as they went in.
- Randomness comes from a seed and the global index of the example (`Inpainter.complete`: from its
  seed alone): the numbers do not depend on the batch, the device or the process that an example
  lands on.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uctgan_jax.export.export_model import export_model
    from uctgan_jax.inpainting.inpainter import Completions, Inpainter
    from uctgan_jax.inpainting.interpolation import interpolate
    from uctgan_jax.saved_models import bundled_models

_MODULES = {
    "Completions": "inpainting.inpainter",
    "Inpainter": "inpainting.inpainter",
    "bundled_models": "saved_models",
    "export_model": "export.export_model",
    "interpolate": "inpainting.interpolation",
}
# Spelled out: type checkers do not compute it.
__all__ = ["Completions", "Inpainter", "bundled_models", "export_model", "interpolate"]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: the data tools start without JAX."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"uctgan_jax.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
