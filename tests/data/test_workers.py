import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest

from uctgan_jax.data.workers import map_in_processes


def test_results_come_in_order_from_other_processes():
    results = list(map_in_processes(abs, range(-9, 0), num_workers=2))
    assert results == list(range(9, 0, -1))
    assert list(map_in_processes(os.path.dirname, ["a/b", "c/d"], num_workers=1)) == ["a", "c"]


def test_a_worker_that_dies_raises_instead_of_hanging():
    with pytest.raises(BrokenProcessPool):
        list(map_in_processes(signal.raise_signal, [signal.SIGKILL] * 2, num_workers=2))


def test_an_error_in_a_worker_arrives():
    with pytest.raises(ZeroDivisionError):
        list(map_in_processes((1).__mod__, [1, 0, 1], num_workers=2))
