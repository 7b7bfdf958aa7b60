import json

import numpy as np
import pytest

from uctgan_jax.evaluation.cache import EvaluationCache, digest

OPTIONS = {"seed": 0, "num_samples": 2}


def measurement(index, **values):
    return {"index": index, "inputs": f"picture {index}", **values}


def test_measurements_come_back_exactly(tmp_path):
    features = np.random.default_rng(0).normal(size=7).astype(np.float32)
    first = EvaluationCache(tmp_path / "new", OPTIONS)
    first.add(
        measurement(3, l1=0.1 + 0.2, psnr=[float("inf"), 1 / 3], features=features, logits=None)
    )
    found = EvaluationCache(tmp_path / "new", OPTIONS).get(3, "picture 3")
    np.testing.assert_array_equal(found.pop("features"), features)
    assert found == measurement(3, l1=0.1 + 0.2, psnr=[float("inf"), 1 / 3], logits=None)


def test_other_options_begin_another_file_and_these_go_on(tmp_path):
    EvaluationCache(tmp_path, OPTIONS).add(measurement(0))
    other = EvaluationCache(tmp_path, {**OPTIONS, "seed": 1})
    assert len(other) == 0
    assert len(EvaluationCache(tmp_path, OPTIONS)) == 1
    assert json.loads(other.path.read_text()) == {"options": {**OPTIONS, "seed": 1}}


def test_another_picture_in_the_same_place_has_no_measurement(tmp_path):
    cache = EvaluationCache(tmp_path, OPTIONS)
    cache.add(measurement(0))
    assert cache.get(0, "another picture") is None and cache.get(1, "picture 0") is None


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_that_was_cut_off_is_lost_alone(tmp_path, cut):
    cache = EvaluationCache(tmp_path, OPTIONS)
    for index in range(3):
        cache.add(measurement(index))
    data = cache.path.read_bytes()
    cache.path.write_bytes(data[:-cut])
    again = EvaluationCache(tmp_path, OPTIONS)
    assert len(again) == 2 and again.get(2, "picture 2") is None
    again.add(measurement(2))
    assert cache.path.read_bytes() == data


def test_a_line_that_was_damaged_is_lost_alone(tmp_path):
    cache = EvaluationCache(tmp_path, OPTIONS)
    for index in range(3):
        cache.add(measurement(index))
    lines = cache.path.read_bytes().splitlines(keepends=True)
    lines[2] = b"\xff" * 9 + b"\n"
    cache.path.write_bytes(b"".join(lines))
    again = EvaluationCache(tmp_path, OPTIONS)
    assert again.get(1, "picture 1") is None
    assert again.get(0, "picture 0") is not None and again.get(2, "picture 2") is not None


def test_a_first_line_that_was_cut_off_is_written_again(tmp_path):
    path = EvaluationCache(tmp_path, OPTIONS).path
    head = path.read_bytes()
    path.write_bytes(head[:7])
    EvaluationCache(tmp_path, OPTIONS).add(measurement(0))
    assert path.read_bytes().startswith(head) and len(EvaluationCache(tmp_path, OPTIONS)) == 1


def test_the_digest_tells_picture_and_mask():
    image, mask = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 1), np.uint8)
    assert len({digest(image, mask), digest(image + 1, mask), digest(image, mask + 1)}) == 3
