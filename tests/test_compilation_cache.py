"""The compilation cache keeps every program, however quickly it compiles."""

import os
import subprocess
import sys
from pathlib import Path

import jax

from uctgan_jax import compilation_cache

PROGRAM = """
import jax
from uctgan_jax import compilation_cache
compilation_cache.enable()
jax.jit(lambda x: x + 1)(1.0)
"""


def test_small_programs_are_kept(tmp_path):
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, env=environment)
    assert any(tmp_path.iterdir())


def test_a_user_without_a_home_does_without(monkeypatch):
    def nobody(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setattr(Path, "expanduser", nobody)
    before = jax.config.jax_compilation_cache_dir
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir == before
