"""What all programs do alike on the command line.

Each program has its flags in an `absl.flags.FlagValues` of its own: absl's global ones would be
those of every library, and of two programs in one process.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import ml_collections
from absl import app, flags, logging
from ml_collections.config_flags import config_flags

from uctgan_jax import compilation_cache, cpu_flags
from uctgan_jax.files import typed_path

FAILED, WRONG_USAGE = 1, 2


def run(main: Callable[[], int | None], options: flags.FlagValues) -> None:
    """Parses the command line into `options`, runs `main` and ends the process.

    `--help` prints the docstring of `main`'s module and the flags. A mistake is one line and no
    traceback: wrong flags and an `app.UsageError` of `main` end with status 2; a ValueError,
    OSError or ImportError, and a missing device, with status 1.

    Args:
        main: returns the exit status; None is 0.
        options: the program's flags.
    """
    with forgiving_output():
        app.run(
            lambda argv: _run_main(main),
            flags_parser=functools.partial(_parse, main=main, options=options),
        )


def fail(message: Exception | str, status: int = FAILED) -> int:
    """Says after the program's name what is wrong; returns the exit status."""
    print(f"{_program()}: {message}", file=sys.stderr)
    return status


def require_device() -> None:
    """Raises a ValueError, of one line, if JAX finds no device of those that it is told to use."""
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or "there is none"
        asked = os.environ.get("JAX_PLATFORMS") or "any"
        raise ValueError(
            f"JAX finds no device to compute on (JAX_PLATFORMS: {asked}): {reason}"
        ) from error


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Printing in the `with` never fails: results are files, and outlive whoever reads along.

    Standard output and error may be closed, full, a pipe whose reader has gone, or Jupyter's.
    Characters that they cannot show are escaped: names of files may be any bytes.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_Forgiving(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


class _Forgiving:
    """A text stream, or None for a closed one, whose errors are passed over."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if self._stream is not None:
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            shown = text.encode(encoding, "backslashreplace").decode(encoding)
            self._try(lambda: self._stream.write(shown))
            self.flush()
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            self._try(self._stream.flush)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def _try(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except (OSError, ValueError):  # ValueError: it was closed
            # What is still in its buffer must not fail when Python ends.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


def define_path(
    name: str, default: str | None, help: str, options: flags.FlagValues, *, required: bool = False
) -> flags.FlagHolder[Path]:
    """Defines a flag for a path as a person types it: `--output=~/DIR` is in the home folder."""
    return flags.DEFINE(_PathParser(), name, default, help, flag_values=options, required=required)


def define_paths(name: str, help: str, options: flags.FlagValues) -> flags.FlagHolder[list[Path]]:
    """Defines a flag as `define_path` does, which may be repeated."""
    return flags.DEFINE_multi(
        _PathParser(), flags.ArgumentSerializer(), name, [], help, flag_values=options
    )


def define_config(
    help: str, options: flags.FlagValues, *, required: bool = False, default_of: str = ""
) -> flags.FlagHolder[ml_collections.ConfigDict]:
    """Defines `--config=FILE` or `--config=MODEL`, and `--config.FIELD=VALUE`.

    A file that is not there is looked up in the package, which has `configs/` as a checkout has it:
    a command that names `configs/folder.py` works wherever the package is installed. A model stands
    for the config that it was trained with.

    Args:
        help: of the flag.
        options: gets it.
        required: whether it has to be given.
        default_of: the flag that names the model whose config is changed by `--config.FIELD=VALUE`
            alone.
    """
    holder = config_flags.DEFINE_config_file("config", None, help, flag_values=options)
    options["config"].parser = _ConfigParser(default_of)
    if required:
        flags.mark_flag_as_required("config", options)
    return holder


def define_training_flags(
    options: flags.FlagValues,
) -> tuple[flags.FlagHolder[ml_collections.ConfigDict], flags.FlagHolder[Path]]:
    """Defines the flags of every training: `--config`, `--workdir`, and `define_process_flags`.

    Returns:
        The first two.
    """
    config = define_config("The configuration of the run.", options, required=True)
    workdir = define_path(
        "workdir", None, "Folder of checkpoints, logs and samples.", options, required=True
    )
    define_process_flags(options)
    return config, workdir


def define_process_flags(options: flags.FlagValues) -> None:
    """Defines the flags that say which of several processes this one is."""
    flags.DEFINE_bool("distributed", False, "One of several processes.", flag_values=options)
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.", flag_values=options)
    flags.DEFINE_integer(
        "num_processes", None, "How many processes there are.", flag_values=options
    )
    flags.DEFINE_integer("process_id", None, "Which process this is, from 0.", flag_values=options)


def are_processes_given(options: flags.FlagValues) -> bool:
    """Whether the flags of `define_process_flags` say that there are several processes."""
    return options.distributed or any(value is not None for value in _processes(options))


def join_processes(options: flags.FlagValues, *, catch_sigterm: bool = True) -> None:
    """Joins the other processes of a run, if `are_processes_given`.

    Args:
        options: has the flags of `define_process_flags`.
        catch_sigterm: as for `parallel.initialize_processes`.

    Raises:
        ValueError: likewise.
    """
    if are_processes_given(options):
        from uctgan_jax import parallel

        parallel.initialize_processes(*_processes(options), catch_sigterm=catch_sigterm)


def prepare_jax() -> None:
    """Sets what JAX has to know before it starts: flags for this CPU, the compilation cache."""
    cpu_flags.set_best()
    logging.set_verbosity(logging.WARNING)  # or JAX tells of every platform that is not there
    compilation_cache.enable()


@contextlib.contextmanager
def training(options: flags.FlagValues) -> Iterator[None]:
    """Prepares JAX and joins the other processes of a training, which runs within."""
    prepare_jax()
    from uctgan_jax import fit

    join_processes(options)
    try:
        yield
    except fit.NonFiniteError as error:
        sys.exit(fail(error))


class _PathParser(flags.ArgumentParser):
    def parse(self, argument: str) -> Path:
        return typed_path(str(argument))

    def flag_type(self) -> str:
        return "path"


class _ConfigParser(config_flags.ConfigFileFlagParser):
    def __init__(self, default_of: str):
        super().__init__("config")
        self.default_of = default_of

    def parse(self, argument: str) -> ml_collections.ConfigDict:
        name, colon, variant = argument.partition(":")
        path = typed_path(name)
        if path.suffix == ".json":
            raise ValueError(f"it is no Python file; the config of a run is --config={path.parent}")
        if path.suffix != ".py" and not colon:
            from uctgan_jax.saved_models import read_config

            return read_config(path)
        package = Path(__file__).parent
        if not path.exists():
            path = package / path
        if not path.exists():
            own = (file.name for file in sorted((package / "configs").glob("[a-z]*.py")))
            raise ValueError(f"there is no such file, and configs/ has {', '.join(own)}")
        try:
            return super().parse(f"{path}{colon}{variant}")
        except ValueError as error:  # whose message is a traceback of what the config raised
            raise ValueError(str(error.__context__)) from error


def _parse(
    argv: list[str], *, main: Callable[[], int | None], options: flags.FlagValues
) -> list[str]:
    flags.FLAGS(argv[:1])  # absl and other libraries ask for their own flags
    options.unparse_flags()
    for field in [name for name in options if name.startswith("config.")]:
        delattr(options, field)  # set when the program ran before in this process
    if {"--help", "-h"} & set(argv[1:]):
        print(_help(main, options))
        sys.exit()
    try:
        argv = _config_first(argv, options)
        _, *more = options(argv)
    except flags.Error as error:  # a line for every flag
        problems = "; ".join(str(error).splitlines())
        missing = r"flag (--\w+)=None: Flag \1 must have a value other than None\.?"
        sys.exit(_fail_usage(re.sub(missing, r"\1 is required", problems)))
    except OSError as error:
        sys.exit(_fail_usage(error))
    except AttributeError as error:  # of a KeyError with the field and, below it, one like it
        (cause,) = error.args
        field, _, hint = str(getattr(cause, "args", [cause])[0]).partition("\n")
        known = f"--config has no field {field}: configs/default.py has them all. {hint}"
        sys.exit(_fail_usage(known.rstrip()))
    if more:
        sys.exit(_fail_usage(f"unknown arguments: {' '.join(more)}"))
    return argv[:1]


def _config_first(argv: list[str], options: flags.FlagValues) -> list[str]:
    """The command line with `--config` before its fields, as ml_collections wants it.

    Where fields are given alone, it is the model that the flag `default_of` names.
    """
    if "config" not in options:
        return argv
    config, rest = [], []
    words = iter(argv[1:])
    for word in words:
        if word in ("--config", "-config"):
            config = [word, next(words, "")]
        elif word.startswith(("--config=", "-config=")):
            config = [word]
        else:
            rest.append(word)
    default_of = options["config"].parser.default_of
    if not config and default_of and any(re.match(r"--?config\.", word) for word in rest):
        named = re.compile(f"--?{default_of}(=(?P<model>.*))?$")
        for word, following in zip(rest, [*rest[1:], ""], strict=True):
            if found := named.match(word):
                config = [f"--config={following if found['model'] is None else found['model']}"]
    sys.argv[1:] = [*config, *rest]  # where ml_collections looks for fields
    return list(sys.argv)


def _help(main: Callable[[], int | None], options: flags.FlagValues) -> str:
    doc = inspect.cleandoc(sys.modules[main.__module__].__doc__ or "")
    lines = [doc, "", "Flags:"]
    for flag in map(options.__getitem__, sorted(options)):
        is_unset = flag.boolean or flag.default in (None, [])
        default = "" if is_unset else f" Default: {flag.default}"
        text = f"--{flag.name}: {flag.help}{default}"
        lines.append(flags.text_wrap(text, length=100, indent="      ", firstline_indent="  "))
    return "\n".join(lines)


def _run_main(main: Callable[[], int | None]) -> int | None:
    try:
        try:
            return main()
        except (RuntimeError, AssertionError):
            # Only now: a run on several processes must not look for devices before it is begun.
            require_device()
            raise
    except app.UsageError as error:
        return _fail_usage(error)
    except (ValueError, OSError, ImportError) as error:
        return fail(error)


def _fail_usage(message: Exception | str) -> int:
    return fail(f"{message} (--help shows all flags)", WRONG_USAGE)


def _processes(options: flags.FlagValues) -> tuple[str | None, int | None, int | None]:
    return options.coordinator_address, options.num_processes, options.process_id


def _program() -> str:
    """The file's name, or of `python -m package` the package's."""
    path = Path(sys.argv[0])
    return path.parent.name if path.stem == "__main__" else path.name
