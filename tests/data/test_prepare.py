import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.conftest import run_program
from uctgan_jax.data import prepare as prepare_module
from uctgan_jax.data.prepare import prepare
from uctgan_jax.data.sources import open_source, split_folder
from uctgan_jax.images import resize_and_crop, write_image


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(60):
        shape = (20 + i, 30, 3)
        write_image(tmp_path / "pictures" / f"class {i % 2}" / f"写真{i}.png",
                    rng.integers(0, 256, shape, np.uint8))  # fmt: skip
    return tmp_path / "pictures"


def test_prepared_pictures_are_those_of_the_folder(pictures, tmp_path, monkeypatch):
    summary = prepare(pictures, tmp_path / "out", size=16, encoding="png", shard_pictures=10)
    assert sum(summary["splits"].values()) == 60 and summary["skipped"] == []
    for split, paths in split_folder(pictures).items():
        assert summary["splits"][split] == len(paths)
        folder = open_source(f"folder:{pictures}", split=split, image_size=16)
        prepared = open_source(f"tfds:{tmp_path / 'out'}", split=split, image_size=16)
        assert len(prepared) == len(folder)
        for i in range(len(folder)):
            np.testing.assert_array_equal(prepared[i], resize_and_crop(folder[i], 16))
    builder = tfds.builder_from_directory(tmp_path / "out")
    record = builder.as_data_source(split="train", decoders={"image": tfds.decode.SkipDecoding()})[
        0
    ]
    assert record["filename"].decode().startswith("class 0/写真")
    assert not (tmp_path / "out" / ".progress").exists()
    # As folders, it may be named from where one is, or from home.
    for name, home in (("out", "nowhere"), ("~/out", str(tmp_path))):
        monkeypatch.setenv("HOME", home)
        monkeypatch.chdir(tmp_path)
        source = open_source(f"tfds:{name}", split="train", image_size=16, data_dir=tmp_path / "no")
        assert len(source) == summary["splits"]["train"]


def test_jpeg_is_close(pictures, tmp_path):
    for i in range(20):  # smooth, unlike the noise
        write_image(pictures / f"smooth {i}.png", np.full((20, 20, 3), (i, 100, 200), np.uint8))
    prepare(pictures, tmp_path / "out", size=16)
    source = open_source(f"tfds:{tmp_path / 'out'}", split="train", image_size=16)
    smooth = [source[i] for i in range(len(source)) if np.ptp(source[i][..., 2]) < 9]
    assert len(smooth) > 10 and np.abs(np.stack(smooth)[..., 1:] - [100.0, 200.0]).max() < 4


def examples(folder):
    """The examples of every split, in order."""
    builder = tfds.builder_from_directory(folder)
    decoders = {"image": tfds.decode.SkipDecoding()}
    return {
        split: [
            (example["filename"], example["image"])
            for example in builder.as_data_source(split=split, decoders=decoders)
        ]
        for split in builder.info.splits
    }


def test_examples_do_not_depend_on_the_number_of_processes(pictures, tmp_path):
    for workers in (1, 2):
        prepare(pictures, tmp_path / str(workers), size=8, shard_pictures=9, num_workers=workers)
    one = examples(tmp_path / "1")
    assert one == examples(tmp_path / "2") and sum(map(len, one.values())) == 60
    assert len(list((tmp_path / "1").glob("*-of-*"))) > 6


def test_damaged_pictures_are_skipped_and_listed(pictures, tmp_path):
    damaged = split_folder(pictures)["test"]  # all of a split
    for path in damaged:
        path.write_bytes(path.read_bytes()[:40])
    summary = prepare(pictures, tmp_path / "out", size=8)
    names = {path.relative_to(pictures).as_posix() for path in damaged}
    assert {name for name, _ in summary["skipped"]} == names
    assert "test" not in summary["splits"]
    listed = (tmp_path / "out" / "skipped.txt").read_text().splitlines()
    assert {line.split("\t")[0] for line in listed} == names and len(listed) == len(damaged)
    assert len(open_source(f"tfds:{tmp_path / 'out'}", split="train", image_size=8)) > 40


def test_what_is_left_out_is_listed(pictures, tmp_path, monkeypatch, capsys):
    (pictures / "notes.txt").write_text("no picture")
    (pictures / "loop").symlink_to(".")
    (tmp_path / "elsewhere").mkdir()
    write_image(tmp_path / "elsewhere" / "a.png", np.zeros((9, 9, 3), np.uint8))
    (pictures / "linked").symlink_to(tmp_path / "elsewhere")
    # A colon is part of a folder's name, for the source too.
    monkeypatch.chdir(tmp_path)
    assert run_program(prepare_module.main, f"--input={pictures}", "--output=x:1", "--size=8") == 0
    listed = dict(line.split("\t") for line in Path("x:1/skipped.txt").read_text().splitlines())
    assert listed == {
        "notes.txt": "not a picture by its ending",
        "loop": "a link to a folder that it lies in",
    }
    printed = capsys.readouterr().out
    assert "left out 2, listed in x:1/skipped.txt" in printed
    for spec in ("tfds:x:1", printed.split("--config.data.source=")[1].strip()):
        sizes = [
            len(open_source(spec, split=split, image_size=8))
            for split in ("train", "validation", "test")
        ]
        assert sum(sizes) == 61


def test_shards_are_as_long_as_told(pictures, tmp_path):
    output = tmp_path / "out"
    options = [f"--input={pictures}", f"--output={output}", "--size=8", "--encoding=png"]
    assert run_program(prepare_module.main, *options, "--shard_pictures=20") == 0
    info = json.loads((output / "dataset_info.json").read_text())
    assert max(int(n) for split in info["splits"] for n in split["shardLengths"]) == 20


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--output="], 2, "--output=: the path is empty"),
        (["--output=~nobody.here/x"], 2, "there is no user"),
        (["--output=x", "--encoding=gif"], 2, "should be one of <jpeg|png>"),
        (["--output=x", "--shard_pictures=0"], 2, "0 is not a positive integer"),
        (["--output=x"], 1, "No pictures in"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, capfd, options, status, message):
    assert run_program(prepare_module.main, f"--input={tmp_path}", "--size=8", *options) == status
    error = capfd.readouterr().err
    assert error.startswith("program.py: ") and message in error and error.count("\n") == 1


def test_names_need_not_be_utf8(pictures, tmp_path):
    damaged, sound = (
        os.fsdecode(bytes(pictures) + name) for name in (b"/a\xe9.png", b"/b\xe9.png")
    )
    Path(damaged).write_bytes(b"damaged")
    write_image(sound, np.zeros((9, 9, 3), np.uint8))
    summary = prepare(pictures, tmp_path / "out", size=8)
    assert [name for name, _ in summary["skipped"]] == ["a\udce9.png"]
    assert (tmp_path / "out" / "skipped.txt").read_text().startswith("a\\xe9.png\t")
    names = [name for split in examples(tmp_path / "out").values() for name, _ in split]
    assert b"b\\xe9.png" in names


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(pictures, tmp_path):
    prepare(pictures, tmp_path / "straight", size=8, shard_pictures=5)
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, time\n"
        "from uctgan_jax.data import prepare as module\n"
        "encoded = module._encoded\n"
        "def slow(*args):\n"
        "    time.sleep(0.02)\n"
        "    return encoded(*args)\n"
        "module._encoded = slow\n"
        "module.prepare(*sys.argv[1:], size=8, shard_pictures=5, num_workers=1)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(prepare_module.__file__).parents[2])}
    command = [sys.executable, str(script), str(pictures), str(tmp_path / "out")]
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    progress = tmp_path / "out" / ".progress"
    deadline = time.time() + 60
    while len(list(progress.glob("*-*.json"))) < 3 and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in progress.glob("*.array_record")}
    assert 3 <= len(finished) < 12
    with pytest.raises(ValueError, match="unfinished run of other size"):
        prepare(pictures, tmp_path / "out", size=16, shard_pictures=5)
    prepare(pictures, tmp_path / "out", size=8, shard_pictures=5)
    assert examples(tmp_path / "straight") == examples(tmp_path / "out")
    times = {path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*array_record*")}
    assert set(finished.values()) <= times  # what was done was not done again


def test_disk_room_is_checked_first(pictures, tmp_path, monkeypatch):
    usage = prepare_module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(prepare_module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="60 pictures need about .* has 0.0 GB free"):
        prepare(pictures, tmp_path / "out", size=64, encoding="png")
    assert not list((tmp_path / "out").rglob("*array_record*"))


def test_a_disk_that_fills_up_is_an_error_with_the_path(pictures, tmp_path, monkeypatch):
    class Writer:
        def __init__(self, *arguments):
            pass

        def write(self, record):
            raise RuntimeError("write() failed: No space left on device")

    monkeypatch.setattr(prepare_module, "ArrayRecordWriter", Writer)
    with pytest.raises(OSError, match="train-00000.partial cannot be written: .*No space left"):
        prepare(pictures, tmp_path / "out", size=8, num_workers=1)
    monkeypatch.undo()
    assert sum(prepare(pictures, tmp_path / "out", size=8)["splits"].values()) == 60


def test_errors(pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        prepare(tmp_path / "nowhere", tmp_path / "out", size=8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="No pictures"):
        prepare(tmp_path / "empty", tmp_path / "out", size=8)
    with pytest.raises(ValueError, match=r"size \(0\)"):
        prepare(pictures, tmp_path / "out", size=0)
    with pytest.raises(ValueError, match="jpeg, png"):
        prepare(pictures, tmp_path / "out", size=8, encoding="webp")
    with pytest.raises(ValueError, match="is not empty"):
        prepare(pictures, pictures, size=8)
