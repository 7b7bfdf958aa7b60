"""The log of a run, without one."""

import json
import time

import numpy as np
import pytest

from uctgan_jax.metrics_log import MetricsLog


@pytest.fixture
def log(tmp_path):
    with MetricsLog(tmp_path, first_step=0, fetch=lambda metrics: metrics) as log:
        yield log


def test_a_record_has_the_means_of_its_steps_and_what_was_noted(log, tmp_path):
    for loss in (1.0, 3.0):
        log.add({"loss": np.float32(loss)}, batch_size=4)
    log.add({"other": np.float32(5.0)}, batch_size=4)
    log.note("error", 0.25)
    record = log.write(3)
    assert {name: record[name] for name in ("step", "loss", "other", "error")} == {
        "step": 3, "loss": 2.0, "other": 5.0, "error": 0.25,
    }  # fmt: skip
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == record
    log.add({"loss": np.float32(7.0)}, batch_size=4)
    assert log.write(4).keys() & {"error", "other"} == set()


def test_pictures_per_second_leave_pauses_out(log):
    log.add({"loss": np.float32(1.0)}, batch_size=100)
    with log.paused():
        time.sleep(1.0)
    time.sleep(0.1)
    assert 200 < log.write(1)["images_per_sec"] <= 1000


def test_the_share_of_time_that_data_was_waited_for(log):
    def batches():
        while True:
            time.sleep(0.3)
            yield {}

    for _ in zip(range(2), log.timed(batches()), strict=False):
        log.add({"loss": np.float32(1.0)}, batch_size=1)
        time.sleep(0.1)
    assert 0.5 < log.write(2)["data_wait_fraction"] < 0.95
