"""The web page: brush a hole into a picture and choose among many completions.

    python demo.py [--checkpoint=DIR]

Needs the extra `web`: `pip install 'uctgan-jax[web]'`. Nothing is fetched from elsewhere, and
only this machine reaches the page unless `--host` says otherwise.

Without a checkout the program is `uctgan-demo`.
"""

import sys

from absl import flags

from uctgan_jax import command_line
from uctgan_jax.inpainting.inpainter import Inpainter

FLAGS = flags.FlagValues()
_CHECKPOINT = command_line.define_path(
    "checkpoint",
    "faces64",
    "A run's workdir, saved weights, or the name of a bundled model.",
    FLAGS,
)
_PORT = flags.DEFINE_integer(
    "port", None, "By default the first free one from 7860.", flag_values=FLAGS
)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "To listen on; 0.0.0.0 for all networks.", flag_values=FLAGS
)


def main() -> None:
    command_line.run(_serve, FLAGS)


def _serve() -> None:
    try:
        from uctgan_jax.web import page, server
    except ImportError as error:
        raise ImportError(
            f"The page needs the extra `web`: pip install 'uctgan-jax[web]' ({error})."
        ) from error
    command_line.prepare_jax()
    inpainter = Inpainter.load(_CHECKPOINT.value)
    print("Compiling; from the second start on this takes seconds.", file=sys.stderr)
    server.warm_up(inpainter)
    server.serve(page.build_page(inpainter), host=_HOST.value, port=_PORT.value)
