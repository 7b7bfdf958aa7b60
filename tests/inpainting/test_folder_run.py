"""Folders of completions: what is compiled, what stops a run and what does not."""

import errno
import itertools
import json

import jax
import numpy as np
import pytest

from uctgan_jax import Inpainter
from uctgan_jax.files import held_alone
from uctgan_jax.images import write_image
from uctgan_jax.inpainting import folder_run as inpainting_files
from uctgan_jax.inpainting.folder_run import complete_file, complete_folder
from uctgan_jax.inpainting.pairs import Pair, pair_files


@pytest.fixture(scope="module")
def on_two_devices(inpainter):
    params = jax.device_get(inpainter.params)
    return Inpainter(inpainter.config, params, 7, inpainter.digest, devices=jax.devices()[:2])


def write_pictures(folder, sizes):
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(sizes):
        mask = np.zeros((height, width), np.uint8)
        mask[height // 4 : height // 2, width // 4 : width // 2] = 255
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        write_image(folder / "images" / f"{number}.png", image)
        write_image(folder / "masks" / f"{number}.png", mask)
    return pair_files(folder / "images", folder / "masks", folder / "out")


def test_other_sizes_compile_nothing_more(inpainter, compilations, tmp_path, monkeypatch):
    alone = inpainter.on_device(jax.devices()[0])
    monkeypatch.setattr(alone, "on_device", lambda device: alone)
    options = dict(num_samples=2, select="both")
    pairs = write_pictures(tmp_path / "first", [(32, 32)])
    complete_folder(alone, pairs, tmp_path / "first" / "out", **options)
    assert compilations
    compilations.clear()
    pairs = write_pictures(tmp_path, itertools.product((20, 33, 90), (40, 57)))
    assert complete_folder(alone, pairs, tmp_path / "out", **options)["completed"] == 6
    assert not compilations


def test_all_devices_work(on_two_devices, tmp_path, monkeypatch):
    used = set()

    def complete(worker, image, mask, output, **options):
        used.add(worker.devices)
        return True

    monkeypatch.setattr(inpainting_files, "complete_file", complete)
    pairs = write_pictures(tmp_path, [(20, 20)] * 9)
    assert complete_folder(on_two_devices, pairs, tmp_path / "out")["completed"] == 9
    assert used == {(device,) for device in on_two_devices.devices}


def test_any_error_in_a_picture_fails_that_picture_alone(on_two_devices, tmp_path, monkeypatch):
    errors = {
        "1": jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore of it"),
        "2": AttributeError("a mistake of ours"),
        "3": MemoryError(),
    }

    def complete(worker, image, mask, output, **options):
        if image.stem in errors:
            raise errors[image.stem]
        return True

    monkeypatch.setattr(inpainting_files, "complete_file", complete)
    pairs = write_pictures(tmp_path, [(20, 20)] * 6)
    summary = complete_folder(on_two_devices, pairs, tmp_path / "out")
    assert summary["completed"] == 3
    assert summary["failed"] == {
        "1": "JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory",
        "2": "AttributeError: a mistake of ours",
        "3": "MemoryError",
    }
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary


def test_a_full_disk_ends_the_run_and_the_summary_says_so(on_two_devices, tmp_path, monkeypatch):
    done = []

    def complete(worker, image, mask, output, **options):
        if len(done) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(output / "000.png"))
        done.append(image)
        return True

    monkeypatch.setattr(inpainting_files, "complete_file", complete)
    pairs = write_pictures(tmp_path, [(20, 20)] * 60)
    summary = complete_folder(on_two_devices, pairs, tmp_path / "out")
    assert summary["completed"] == 3 and 1 <= len(summary["failed"]) < 50
    assert "No space left on device: '" in summary["stopped"] and "000.png" in summary["stopped"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary


def test_a_run_of_many_pictures_holds_few_of_them(on_two_devices, tmp_path, monkeypatch):
    begun = finished = most = 0

    def pairs():
        nonlocal begun, most
        for number in range(500):
            begun += 1
            most = max(most, begun - finished)
            yield Pair(str(number), tmp_path, tmp_path)

    def complete(worker, image, mask, output, **options):
        nonlocal finished
        finished += 1
        return True

    monkeypatch.setattr(inpainting_files, "complete_file", complete)
    assert complete_folder(on_two_devices, pairs(), tmp_path / "out")["completed"] == 500
    assert most <= 40


def test_a_file_that_cannot_be_written_leaves_nothing_behind(on_two_devices, tmp_path, monkeypatch):
    ((_, image, mask),) = write_pictures(tmp_path, [(32, 32)])
    out = tmp_path / "out"
    assert complete_file(on_two_devices, image, mask, out, num_samples=2)
    assert not complete_file(on_two_devices, image, mask, out, num_samples=2, skip_finished=True)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    (out / "mine.txt").write_text("of another program")
    with monkeypatch.context() as patch:
        patch.setattr(inpainting_files, "write_image", full)
        with pytest.raises(OSError, match="No space"):
            complete_file(on_two_devices, image, mask, out, num_samples=2)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    (out / "mine.txt").unlink()
    assert complete_file(on_two_devices, image, mask, out, num_samples=1, skip_finished=True)
    assert {path.name for path in out.iterdir()} == {"000.png", "grid.png", "scores.json"}
    assert complete_file(on_two_devices, image, mask, out, num_samples=2, skip_finished=True)
    assert json.loads((out / "scores.json").read_text())["completions"][1]["file"] == "001.png"


def test_scores_vouch_for_the_files_as_they_were_written(on_two_devices, tmp_path):
    ((_, image, mask),) = write_pictures(tmp_path, [(32, 32)])
    out, options = tmp_path / "out", dict(num_samples=2, skip_finished=True)
    assert complete_file(on_two_devices, image, mask, out, **options)
    assert {*json.loads((out / "scores.json").read_text())["files"]} == {
        "000.png",
        "001.png",
        "grid.png",
    }
    assert not complete_file(on_two_devices, image, mask, out, **options)
    write_image(out / "001.png", np.zeros((32, 32, 3), np.uint8))  # as of another run
    assert complete_file(on_two_devices, image, mask, out, **options)
    assert not complete_file(on_two_devices, image, mask, out, **options)


def test_a_folder_is_held_by_one_run(on_two_devices, tmp_path):
    pairs = write_pictures(tmp_path, [(32, 32)])
    ((_, image, mask),) = pairs
    out = tmp_path / "out"
    out.mkdir()
    with held_alone(out, busy=""):
        with pytest.raises(ValueError, match="out: another run is writing to this folder"):
            complete_folder(on_two_devices, pairs, out)
        with pytest.raises(ValueError, match="another run is writing"):
            complete_file(on_two_devices, image, mask, out)
    assert list(out.iterdir()) == []


def test_leftovers_of_killed_runs_are_removed(on_two_devices, tmp_path):
    ((_, image, mask),) = write_pictures(tmp_path, [(32, 32)])
    out = tmp_path / "out"
    out.mkdir()
    (out / "000.png.123-456.partial").write_bytes(b"half")
    (out / "a film.partial").write_bytes(b"of a browser")
    complete_file(on_two_devices, image, mask, out, num_samples=1)
    names = {path.name for path in out.iterdir()}
    assert names == {"000.png", "grid.png", "scores.json", "a film.partial"}


def test_the_sheet_of_many_completions_is_bounded():
    many = np.zeros((5000, 8, 8, 3), np.uint8)
    picture, hole = many[0], np.ones((8, 8, 1), np.uint8)
    sheet = inpainting_files._grid(picture, hole, many, [])
    assert max(sheet.shape) < 2000
    with_references = inpainting_files._grid(picture, hole, many[:20], [picture] * 20)
    assert with_references.shape[1] == sheet.shape[1]


def test_options_may_be_numbers_of_numpy(on_two_devices, tmp_path):
    ((_, image, mask),) = write_pictures(tmp_path, [(32, 32)])
    options = dict(num_samples=2, temperature=np.float32(0.5), walk=(0, np.int64(1)))
    assert complete_file(on_two_devices, image, mask, tmp_path / "out", seed=np.int64(3), **options)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (scores["seed"], scores["temperature"], scores["walk"]) == (3, 0.5, [0, 1])
