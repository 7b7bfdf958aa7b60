"""Folders of completions: what is compiled, what stops a run and what does not."""

import itertools
import json

import jax
import numpy as np
import pytest

from uctgan_jax import Inpainter
from uctgan_jax.images import write_image
from uctgan_jax.inpainting import folder_run as inpainting_files
from uctgan_jax.inpainting.folder_run import complete_file, complete_folder, pair_files


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
    pairs, _ = pair_files(folder / "images", folder / "masks", folder / "out")
    return pairs


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


def test_an_error_in_the_program_itself_stops_the_run(on_two_devices, tmp_path, monkeypatch):
    def complete(*arguments, **options):
        raise AttributeError("a mistake of ours")

    monkeypatch.setattr(inpainting_files, "complete_file", complete)
    pairs = write_pictures(tmp_path, [(20, 20)] * 3)
    with pytest.raises(AttributeError, match="a mistake of ours"):
        complete_folder(on_two_devices, pairs, tmp_path / "out")
    assert not (tmp_path / "out" / "summary.json").exists()


def test_a_file_that_cannot_be_written_leaves_the_folder_unfinished(
    on_two_devices, tmp_path, monkeypatch
):
    ((image, mask),) = write_pictures(tmp_path, [(32, 32)]).values()
    out = tmp_path / "out"
    assert complete_file(on_two_devices, image, mask, out, num_samples=2)
    assert not complete_file(on_two_devices, image, mask, out, num_samples=2, skip_finished=True)

    def full(*arguments):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(inpainting_files, "write_image", full)
        with pytest.raises(OSError, match="no space"):
            complete_file(on_two_devices, image, mask, out, num_samples=2)
    # What is there has no scores, and goes when the next run writes less.
    scores = json.loads((out / "scores.json").read_text())
    assert scores["completions"] == [None, None]
    assert complete_file(on_two_devices, image, mask, out, num_samples=1, skip_finished=True)
    assert {path.name for path in out.iterdir()} == {"000.png", "grid.png", "scores.json"}
    assert complete_file(on_two_devices, image, mask, out, num_samples=2, skip_finished=True)
    assert json.loads((out / "scores.json").read_text())["completions"][1]["file"] == "001.png"


def test_options_may_be_numbers_of_numpy(on_two_devices, tmp_path):
    ((image, mask),) = write_pictures(tmp_path, [(32, 32)]).values()
    options = dict(num_samples=2, temperature=np.float32(0.5), walk=(0, np.int64(1)))
    assert complete_file(on_two_devices, image, mask, tmp_path / "out", seed=np.int64(3), **options)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert (scores["seed"], scores["temperature"], scores["walk"]) == (3, 0.5, [0, 1])


def test_names_that_only_differ_in_how_accents_are_stored_are_a_pair(tmp_path):
    write_image(tmp_path / "images" / "caf\u00e9.png", np.zeros((9, 9), np.uint8))
    write_image(tmp_path / "masks" / "cafe\u0301.png", np.zeros((9, 9), np.uint8))
    pairs, without = pair_files(tmp_path / "images", tmp_path / "masks", tmp_path / "out")
    assert list(pairs) == ["caf\u00e9"] and not without
