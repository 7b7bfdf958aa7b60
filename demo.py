"""The web page: brush a hole into a picture and choose among many completions.

    python demo.py [--checkpoint=DIR]

Needs the optional dependencies: `pip install '.[demo]'`. Nothing is fetched from elsewhere, and
only this machine reaches the page unless `--host` says otherwise.
"""

import argparse
import sys
from collections.abc import Sequence

from uctgan_jax import compilation_cache
from uctgan_jax.inpainting.inpainter import Inpainter

try:
    from uctgan_jax.web import page as web
except ModuleNotFoundError as error:
    raise SystemExit(f"demo.py: {error}; pip install '.[demo]' brings what it needs") from error


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint",
        default="avatars64",
        help="workdir of a run, its checkpoints, saved weights, or the name of a bundled model;"
        " by default avatars64",
    )
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all networks"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line; bad input ends it with one line that says what is wrong."""
    arguments = parse_arguments(argv)
    compilation_cache.enable()
    try:
        inpainter = Inpainter.load(arguments.checkpoint)
        print("Compiling; from the second start on this takes seconds.", file=sys.stderr)
        web.warm_up(inpainter)
        web.serve(web.build_page(inpainter), host=arguments.host, port=arguments.port)
    except (ValueError, OSError) as error:
        raise SystemExit(f"demo.py: {error}") from error


if __name__ == "__main__":
    main()
