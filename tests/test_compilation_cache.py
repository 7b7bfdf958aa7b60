"""The compilation cache keeps every program, however quickly it compiles."""

import os
import subprocess
import sys

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
