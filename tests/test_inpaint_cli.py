"""`inpaint.py` from files to files."""

import errno
import json
import os
import shutil
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
from PIL import Image

from tests.conftest import model_params, moved, run_config, run_program
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.config import config_dict
from uctgan_jax.images import read_image, write_image
from uctgan_jax.programs import inpaint

HOLE = np.s_[10:30, 12:40]


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    """Of a folder's pictures each device would compile its own programs."""
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, networks, picture_folder):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    config = run_config(picture_folder)
    params = jax.device_get(model_params(networks, seed=0))
    # D is asked once it has moved.
    params["discriminator"] = moved(params["discriminator"])
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, params, {"step": np.int32(1)}, config_dict(config), error=1.0)
    return folder.parent


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)
    mask = np.zeros((40, 56, 3), np.uint8)
    mask[HOLE] = 255
    write_image(tmp_path / "p.png", image)
    write_image(tmp_path / "m.png", mask)
    write_image(tmp_path / "inverted.png", 255 - mask)
    return tmp_path, image


def run(checkpoint, folder, *flags, image="p.png", mask="m.png", status=0, read=True):
    assert status == run_program(
        inpaint.main,
        f"--checkpoint={checkpoint}",
        *([f"--image={folder / image}"] if image else []),
        f"--mask={folder / mask}",
        f"--output={folder / 'out'}",
        "--num_samples=3",
        *flags,
    )
    if read:
        return {path.name: read_image(path) for path in sorted((folder / "out").glob("*.png"))}


def scores(folder):
    return json.loads((folder / "scores.json").read_text())


def test_writes_every_completion_a_grid_and_the_scores(checkpoint, files):
    folder, image = files
    out = run(checkpoint, folder)
    assert list(out) == ["000.png", "001.png", "002.png", "grid.png"]
    known = np.ones((40, 56), bool)
    known[HOLE] = False
    for name in ("000.png", "001.png", "002.png"):
        np.testing.assert_array_equal(out[name][known], image[known])
    assert not np.array_equal(out["000.png"], out["001.png"])
    assert out["grid.png"].shape[1] > 5 * 56

    written = scores(folder / "out")
    assert written["seed"] == 0 and written["temperature"] == 1 and written["select"] is None
    assert written["checkpoint"]["step"] == 1 and len(written["checkpoint"]["digest"]) == 64
    assert [c["file"] for c in written["completions"]] == ["000.png", "001.png", "002.png"]
    for completion in written["completions"]:
        assert np.isfinite(completion["realism"]) and completion["difference"] > 0

    again = run(checkpoint, folder)
    other = run(checkpoint, folder, "--seed=1")
    np.testing.assert_array_equal(again["002.png"], out["002.png"])
    assert not np.array_equal(other["002.png"], out["002.png"])


def test_fewer_completions_leave_none_of_an_earlier_run(checkpoint, files):
    folder, _ = files
    run(checkpoint, folder, "--gif=0,1")
    out = run(checkpoint, folder, "--num_samples=1")
    assert list(out) == ["000.png", "grid.png"]
    assert not (folder / "out" / "walk.gif").exists()
    (only,) = scores(folder / "out")["completions"]
    assert only["difference"] is None  # from what?


def test_files_of_others_are_left_alone(checkpoint, files, capsys):
    folder, image = files
    out = folder / "out"
    out.mkdir()
    Image.fromarray(image).save(out / "walk.gif")
    instances = [f"--instance={path}" for path in (folder / "p.png", out / "walk.gif")]
    run(checkpoint, folder, "--gif=0,1", *instances, status=1, read=False)
    assert "walk.gif would be overwritten" in capsys.readouterr().err
    write_image(out / "001.png", image)
    run(checkpoint, folder, image="out/001.png", status=1, read=False)
    assert "out/001.png would be overwritten" in capsys.readouterr().err
    np.testing.assert_array_equal(read_image(out / "001.png"), image)
    others = [out / "003.png", out / "walk.gif"]
    for other in others:
        other.write_bytes(b"no picture of ours")
    for _ in range(2):
        run(checkpoint, folder, read=False)
    for other in others:
        assert other.read_bytes() == b"no picture of ours"


def test_an_input_that_an_earlier_run_wrote_is_kept(checkpoint, files, capsys):
    """It would be removed with the rest of that run, though nothing new takes its name."""
    folder, _ = files
    run(checkpoint, folder, "--num_samples=3")
    out = folder / "out"
    for options in (["--num_samples=1"], [f"--instance={out / '002.png'}"]):
        run(checkpoint, folder, *options, image="out/002.png", status=1, read=False)
        assert "002.png would be overwritten" in capsys.readouterr().err
    assert {path.name for path in out.iterdir()} >= {"000.png", "001.png", "002.png", "scores.json"}


def test_a_mask_that_may_be_inverted_is_mentioned(checkpoint, files, capsys):
    folder, _ = files
    run(checkpoint, folder)
    assert "The hole is" not in capsys.readouterr().err
    run(checkpoint, folder, mask="inverted.png")
    share = 1 - np.prod([side.stop - side.start for side in HOLE]) / (40 * 56)
    hint = f"The hole is {share:.0%} of the picture. If the mask is inverted, add"
    assert f"{hint} --mask_convention=black_is_hole\n" in capsys.readouterr().err


def test_black_is_hole(checkpoint, files):
    folder, _ = files
    expected = run(checkpoint, folder)
    out = run(checkpoint, folder, "--mask_convention=black_is_hole", mask="inverted.png")
    np.testing.assert_array_equal(out["000.png"], expected["000.png"])


def test_instances(checkpoint, files):
    folder, _ = files
    out = run(checkpoint, folder, *[f"--instance={folder / name}" for name in ("p.png", "m.png")])
    assert list(out) == ["000.png", "001.png", "grid.png"]
    assert not np.array_equal(out["000.png"], out["001.png"])
    assert [i["file"] for i in scores(folder / "out")["instances"]] == ["p.png", "m.png"]


def test_select_and_temperature(checkpoint, files):
    folder, _ = files
    plain = run(checkpoint, folder)
    cool = run(checkpoint, folder, "--temperature=0")
    np.testing.assert_array_equal(cool["000.png"], cool["001.png"])
    realistic = run(checkpoint, folder, "--select=realistic")
    ranked = [c["realism"] for c in scores(folder / "out")["completions"]]
    assert ranked == sorted(ranked, reverse=True)
    assert scores(folder / "out")["select"] == "realistic"
    assert any(not np.array_equal(plain[name], realistic[name]) for name in plain)


def test_gif_walks_from_one_completion_to_another(checkpoint, files):
    folder, image = files
    out = run(checkpoint, folder, "--gif=2,0")
    with Image.open(folder / "out" / "walk.gif") as gif:
        assert gif.size == (256, 183) and gif.n_frames == 46  # 24 there and 22 back
        shown = []
        for frame in (0, 23):
            gif.seek(frame)
            small = gif.convert("RGB").resize((56, 40), Image.Resampling.BOX)
            shown.append(np.asarray(small)[HOLE].astype(int))
    for frame, end in zip(shown, ("002.png", "000.png"), strict=True):
        # 256 colours for a picture of noise are few.
        other = {"002.png": "000.png", "000.png": "002.png"}[end]
        assert np.abs(frame - out[end][HOLE]).mean() < np.abs(frame - out[other][HOLE]).mean()
    assert scores(folder / "out")["walk"] == [2, 0]


def test_alpha_and_depth_are_kept(checkpoint, files):
    folder, image = files
    deep = np.random.default_rng(1).integers(0, 2**16, (40, 56, 4), dtype=np.uint16)
    deep[..., 3] |= 0x8000
    cv2.imwrite(str(folder / "deep.png"), deep)
    run(checkpoint, folder, image="deep.png")
    written = cv2.imread(str(folder / "out" / "000.png"), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16 and written.shape == deep.shape
    known = np.ones((40, 56), bool)
    known[HOLE] = False
    np.testing.assert_array_equal(written[known], deep[known])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(image="missing.png"), "missing.png"),
        (dict(image="text.png"), "text.png"),
        (dict(mask="small.png"), "small.png: the mask is 20 x 56"),
    ],
)
def test_bad_pictures_are_named_before_the_model_is_loaded(files, changes, message, capsys):
    folder, image = files
    write_image(folder / "small.png", image[:20])
    (folder / "text.png").write_text("not a picture")
    run(folder / "nowhere", folder, **changes, status=1)
    error = capsys.readouterr().err
    assert error.startswith("program.py: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(("value", "message"), [(0, "empty"), (255, "full")])
def test_empty_and_full_masks_are_refused(files, value, message, capsys):
    folder, image = files
    write_image(folder / "flat.png", np.full_like(image, value))
    run(folder / "no model is needed", folder, mask="flat.png", status=1)
    error = capsys.readouterr().err
    assert f"flat.png: the mask is {message}" in error and error.count("\n") == 1
    assert f"Values of the file: {value}; white is the hole" in error and "black_is_hole" in error
    run(folder / "no model", folder, f"--images={folder}", image=None, mask="flat.png", status=2)
    assert f"flat.png: the mask is {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nowhere is neither"),
        (["--num_samples=0"], "--num_samples=0: 0 is not a positive integer"),
        (["--seed=-1"], "--seed=-1: -1 is not a non-negative integer"),
        (["--temperature=-1"], "--temperature=-1.0: must be at least 0"),
        (["--temperature=nan"], "--temperature=nan: must be at least 0, and finite"),
        (["--select=best"], "--select=best: value should be one of <diverse|realistic|both>"),
        (["--select=diverse", "--instance=p.png"], "give one"),
        (["--instance=missing.png"], "missing.png: no such file"),
        (["--gif=0"], "--gif=0: must be two numbers"),
        (["--gif=0,3"], "walk (0, 3) must be two different numbers of completions, from 0 to 2"),
        (["--gif=1,1"], "walk (1, 1) must be two different"),
        (["--num_samples=1", "--gif=0,1"], "walk (0, 1) must be"),
        (["--output="], "--output=: the path is empty"),
        (["--checkpoint="], "--checkpoint=: the path is empty"),
        (["--mask=~nobody.here/m.png"], "there is no user 'nobody.here'"),
        (["--images=folder"], "either --image and --mask, or --images and --masks"),
        (["--masks=folder"], "either --image and --mask"),
    ],
)
def test_wrong_usage(files, flags, message, capsys):
    folder, _ = files
    run(folder / "nowhere", folder, *flags, status=2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_inputs_may_be_pipes(checkpoint, files):
    folder, _ = files
    expected = run(checkpoint, folder)
    ends = []
    for name in ("p.png", "m.png"):
        read, write = os.pipe()
        os.write(write, (folder / name).read_bytes())
        os.close(write)
        ends.append(read)
    image, mask = (f"/dev/fd/{read}" for read in ends)
    out = run(checkpoint, folder, image=image, mask=mask)
    for read in ends:
        os.close(read)
    np.testing.assert_array_equal(out["001.png"], expected["001.png"])


def test_memory_of_the_device_is_an_error_of_the_picture(checkpoint, files, monkeypatch, capsys):
    def complete(*arguments, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore of it")

    monkeypatch.setattr(inpaint, "complete_file", complete)
    run(checkpoint, files[0], status=1)
    error = capsys.readouterr().err
    assert "p.png: JaxRuntimeError: RESOURCE_EXHAUSTED" in error and error.count("\n") == 1


def test_selecting_by_realism_needs_a_discriminator(networks, files, tmp_path, capsys):
    folder, _ = files
    config = run_config(folder)
    params = jax.device_get(model_params(networks, seed=0))  # of a D that has learned nothing
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(1, params, {"step": np.int32(1)}, config_dict(config), error=1.0)
    run(tmp_path / "run", folder, "--select=both", status=2)
    assert "select ('both') needs a model with a trained" in capsys.readouterr().err
    run(tmp_path / "run", folder, "--select=diverse")
    assert scores(folder / "out")["completions"][0]["realism"] is None


class TestFolder:
    """`--images` and `--masks`."""

    @pytest.fixture
    def folders(self, tmp_path):
        """Three pictures of different sizes, one of them nested, with masks."""
        rng = np.random.default_rng(0)
        for name, shape in (("a", (40, 56)), ("b", (33, 31)), ("more/c", (64, 40))):
            image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
            mask = np.zeros((*shape, 1), np.uint8)
            mask[8:20, 8:20] = 255
            (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "images" / f"{name}.webp", lossless=True)
            write_image(tmp_path / "masks" / f"{name}.png", mask)
        return tmp_path

    def start(self, checkpoint, folder, *flags, status=0):
        assert status == run_program(
            inpaint.main,
            f"--checkpoint={checkpoint}",
            f"--images={folder / 'images'}",
            f"--masks={folder / 'masks'}",
            f"--output={folder / 'out'}",
            "--num_samples=2",
            *flags,
        )

    def run(self, checkpoint, folder, *flags, status=0):
        self.start(checkpoint, folder, *flags, status=status)
        return json.loads((folder / "out" / "summary.json").read_text())

    def times(self, folder):
        return {
            path.relative_to(folder / "out").as_posix(): path.stat().st_mtime_ns
            for path in (folder / "out").rglob("*.png")
        }

    def test_each_picture_gets_what_it_gets_alone(self, checkpoint, folders, capsys):
        summary = self.run(checkpoint, folders)
        assert summary["completed"] == 3 and summary["failed"] == {}
        files = ("000.png", "001.png", "grid.png")
        names = ("a", "b", "more/c")
        assert sorted(self.times(folders)) == [f"{n}/{file}" for n in names for file in files]
        alone = folders / "alone"
        assert 0 == run_program(
            inpaint.main,
            f"--checkpoint={checkpoint}",
            f"--image={folders / 'images' / 'more' / 'c.webp'}",
            f"--mask={folders / 'masks' / 'more' / 'c.png'}",
            f"--output={alone}",
            "--num_samples=2",
        )
        for file in files[:2]:
            together = read_image(folders / "out" / "more" / "c" / file).astype(int)
            assert np.abs(together - read_image(alone / file)).max() <= 1
        assert scores(alone)["image"] == scores(folders / "out" / "more" / "c")["image"]
        assert "3 pictures completed" in capsys.readouterr().out

    def test_what_is_finished_is_left_alone_and_what_is_not_is_done(self, checkpoint, folders):
        self.run(checkpoint, folders)
        before = self.times(folders)
        assert self.run(checkpoint, folders)["already_finished"] == 3
        assert self.times(folders) == before

        # A run that was killed in the middle of one, a picture that changed, a file that is gone.
        (folders / "out" / "a" / "scores.json").unlink()
        (folders / "out" / "a" / "001.png").write_bytes(b"half a file")
        write_image(folders / "masks" / "b.png", np.eye(33, 31, dtype=np.uint8) * 255)
        (folders / "out" / "more" / "c" / "001.png").unlink()
        summary = self.run(checkpoint, folders)
        assert (summary["completed"], summary["already_finished"]) == (3, 0)
        assert read_image(folders / "out" / "a" / "001.png").shape == (40, 56, 3)

        (folders / "out" / "b" / "scores.json").write_text("{}")
        (folders / "out" / "a" / "grid.png").unlink()
        summary = self.run(checkpoint, folders)
        assert (summary["completed"], summary["already_finished"]) == (2, 1)
        assert self.run(checkpoint, folders, "--seed=1")["completed"] == 3

    def test_stopping_says_so(self, checkpoint, folders, monkeypatch, capsys):
        def stop(*arguments, **options):
            raise KeyboardInterrupt

        monkeypatch.setattr(inpaint, "complete_folder", stop)
        self.start(checkpoint, folders, status=130)
        assert "program.py: stopped; what is finished stays" in capsys.readouterr().err

    def test_bad_files_do_not_stop_the_rest(self, checkpoint, folders, capsys):
        (folders / "images" / "a.webp").write_bytes(b"RIFF, but not a picture")
        write_image(folders / "masks" / "b.png", np.full((9, 9), 255, np.uint8))
        write_image(folders / "images" / "lonely.png", np.zeros((9, 9, 3), np.uint8))
        summary = self.run(checkpoint, folders, status=1)
        assert summary["completed"] == 1
        assert list(summary["failed"]) == ["a", "b", "lonely"]
        assert "a.webp" in summary["failed"]["a"]
        assert "the mask is 9 x 9" in summary["failed"]["b"]
        assert "no mask of this name" in summary["failed"]["lonely"]
        printed = capsys.readouterr()
        assert "3 failed" in printed.out and "  lonely: no mask" in printed.err
        assert (folders / "out" / "more" / "c" / "scores.json").exists()

    def test_what_is_left_out_is_named(self, checkpoint, folders, capsys):
        (folders / "images" / "notes.txt").write_text("no picture")
        (folders / "images" / "loop").symlink_to("..")
        (folders / "images" / "broken.png").symlink_to("nowhere")
        (folders / "images" / "a.webp").rename(folders / "images" / "~a:1.webp")
        (folders / "masks" / "a.png").rename(folders / "masks" / "~a:1_mask.png")
        write_image(folders / "masks" / "d.png", np.zeros((9, 9), np.uint8))
        summary = self.run(checkpoint, folders, status=1)
        assert summary["completed"] == 3 and (folders / "out" / "~a:1" / "000.png").exists()
        assert summary["failed"] == {str(folders / "images" / "broken.png"): "a broken link"}
        assert {Path(path).name: reason for path, reason in summary["left_out"].items()} == {
            "notes.txt": "not a picture by its ending",
            "loop": "a link to a folder that it lies in",
            "d.png": "a mask of no picture",
        }
        assert "1 left out, a mask of no picture: " in capsys.readouterr().err

    def test_one_mask_for_all(self, checkpoint, folders):
        shutil.rmtree(folders / "images" / "more")
        (folders / "images" / "b.webp").unlink()
        (folders / "images" / "a.webp").rename(folders / "images" / "x.webp")
        command = [
            f"--checkpoint={checkpoint}",
            f"--images={folders / 'images'}",
            f"--mask={folders / 'masks' / 'a.png'}",
            f"--output={folders / 'out'}",
            "--num_samples=1",
        ]
        assert run_program(inpaint.main, *command) == 0
        assert scores(folders / "out" / "x")["mask"]["file"] == "a.png"

    def test_a_summary_that_cannot_be_written_is_a_failure(
        self, checkpoint, folders, monkeypatch, capsys
    ):
        def full(*arguments, **options):
            raise OSError(errno.ENOSPC, "No space left on device", "out/summary.json")

        monkeypatch.setattr(inpaint, "complete_folder", full)
        self.start(checkpoint, folders, status=1)
        error = capsys.readouterr().err
        assert error == "program.py: [Errno 28] No space left on device: 'out/summary.json'\n"

    @pytest.mark.parametrize(
        ("prepare", "flags", "message"),
        [
            (lambda f: None, ["--images={}/nowhere"], "nowhere: no such folder"),
            (lambda f: (f / "empty").mkdir(), ["--masks={}/empty"], "has a mask of its name"),
            (lambda f: None, ["--output={}/images/out"], "must not lie in images"),
            (lambda f: None, ["--masks={}/images/more"], "must not lie in"),
            (
                lambda f: (
                    (f / "images" / "a.webp").rename(f / "images" / "x.webp")
                    and (f / "images" / "b.webp").rename(f / "images" / "y.webp")
                ),
                ["--masks={}/masks/more"],
                "has a mask of its name",
            ),
            (
                lambda f: write_image(f / "images" / "a.png", np.zeros((9, 9), np.uint8)),
                [],
                "have the same name",
            ),
        ],
    )
    def test_wrong_usage(self, folders, prepare, flags, message, capsys):
        prepare(folders)
        status = run_program(
            inpaint.main,
            "--checkpoint=nowhere",
            f"--images={folders / 'images'}",
            f"--masks={folders / 'masks'}",
            f"--output={folders / 'out'}",
            *[flag.format(folders) for flag in flags],
        )
        assert status == 2
        assert message in capsys.readouterr().err


def test_a_grown_mask_changes_a_ring_more_and_nothing_else(checkpoint, files):
    folder, image = files
    plain = run(checkpoint, folder, "--num_samples=1")["000.png"]
    grown = run(checkpoint, folder, "--num_samples=1", "--grow=3")["000.png"]
    ring = np.zeros(image.shape[:2], bool)
    ring[7:33, 9:43] = True
    np.testing.assert_array_equal(grown[~ring], image[~ring])
    ring[HOLE] = False
    np.testing.assert_array_equal(plain[ring], image[ring])
    assert (grown[ring] != image[ring]).any()
    assert scores(folder / "out")["grow"] == 3


def test_a_soft_mask_covers_more_than_its_half(checkpoint, files):
    """What a mask covers in part is filled, and no pixel that it does not cover is changed."""
    folder, image = files
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[HOLE] = 255
    mask[9, 12:40] = 100
    write_image(folder / "soft.png", mask)
    out = run(checkpoint, folder, "--num_samples=1", mask="soft.png")["000.png"]
    assert (out[9, 12:40] != image[9, 12:40]).any()
    np.testing.assert_array_equal(out[mask == 0], image[mask == 0])
