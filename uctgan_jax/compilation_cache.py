"""The persistent compilation cache: the second start of a program compiles nothing again."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def enable() -> None:
    """Keeps compiled programs in `$JAX_COMPILATION_CACHE_DIR`, else `~/.cache/uctgan_jax/xla`.

    Nowhere without either, as of a user that a container does not know.
    """
    directory = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if directory is None:
        try:
            directory = str(Path("~/.cache/uctgan_jax/xla").expanduser())
        except RuntimeError:
            return
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
