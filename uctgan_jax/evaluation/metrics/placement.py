"""Networks that measure, on whichever device a thread works on."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def on_default_device(params: Any) -> Callable[[], Any]:
    """Parameters that are copied once to each device they are used on.

    Args:
        params: a tree of arrays.

    Returns:
        A function that gives the copy on the calling thread's default device, as
        `jax.default_device` sets it.
    """
    copy = functools.cache(lambda device: jax.device_put(params, device))
    return lambda: copy(jax.config.jax_default_device)
