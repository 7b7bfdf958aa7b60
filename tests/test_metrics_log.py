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
    start = time.perf_counter()
    log.start_clock()
    log.add({"loss": np.float32(1.0)}, batch_size=100)
    with log.paused():
        pause = time.perf_counter()
        time.sleep(0.2)
        paused = time.perf_counter() - pause
    record = log.write(1)
    assert 0 < 100 / record["images_per_sec"] <= time.perf_counter() - start - paused


def test_the_share_of_time_that_data_was_waited_for(log):
    waits, works = [], []

    def sleep(durations):
        start = time.perf_counter()
        time.sleep(0.1)
        durations.append(time.perf_counter() - start)

    def batches():
        while True:
            sleep(waits)
            yield {}

    start = time.perf_counter()
    log.start_clock()
    for _ in zip(range(2), log.timed(batches()), strict=False):
        log.add({"loss": np.float32(1.0)}, batch_size=1)
        sleep(works)
    record = log.write(2)
    seconds = 2 / record["images_per_sec"]
    waited = record["data_wait_fraction"] * seconds
    assert sum(waits) <= waited <= time.perf_counter() - start - sum(works)


def test_a_resumed_log_takes_back_what_comes_again(tmp_path):
    """A killed run may have logged beyond its checkpoint, and half a line."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    with MetricsLog(tmp_path, first_step=2, fetch=lambda metrics: metrics) as log:
        log.add({"loss": np.float32(1.0)}, batch_size=4)
        log.write(3)
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in logged] == [1, 2, 3]
    assert logged[-1]["loss"] == 1.0


def test_numbers_that_are_not_finite_are_written_as_strings(log, tmp_path):
    log.add({"loss": np.float32("nan"), "norm": np.float32("inf")}, batch_size=4)
    log.write(1)
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (record["loss"], record["norm"]) == ("nan", "inf")
