"""The table of inpainting on photographs: known figures, what is written, clear errors."""

import json
import re

import numpy as np
import pytest

from benchmarks import photographs
from tests.conftest import run_program
from uctgan_jax.data.sources import open_source
from uctgan_jax.images import read_image, resize_and_crop, write_image

SIDE = 32
HOLE = slice(SIDE // 4, 3 * SIDE // 4)
NUM_EXAMPLES = 6
ROWS = ["mean colour", "another's pasted in", "ours", "truth"]


def pictures(picture_folder, split):
    source = open_source(f"folder:{picture_folder}", split=split, image_size=SIDE)
    return np.stack([resize_and_crop(source[i], SIDE) for i in range(len(source))])


def run(picture_folder, *arguments):
    data = f"--data=folder:{picture_folder}"
    return run_program(photographs.main, data, f"--image_size={SIDE}", *arguments)


@pytest.fixture(scope="module")
def output(tmp_path_factory, picture_folder, inpainter):
    """Every kind of row: "truth" is a program that finds it, but alters a known pixel."""
    folder = tmp_path_factory.mktemp("photographs")
    inpainter.save(folder / "model")
    for i, truth in enumerate(pictures(picture_folder, "test")):
        for k in range(photographs.NUM_SAMPLES):
            completion = truth.copy()
            completion[0, 0] ^= np.uint8(k == 0)
            write_image(folder / "truth" / f"{i:06d}_{k:03d}.png", completion)
    with pytest.MonkeyPatch.context() as patch:
        # The others and a hundred completions would take a minute.
        patch.setattr(photographs, "FILLS", {"mean colour": photographs.FILLS["mean colour"]})
        patch.setattr(photographs, "MANY", 9)
        status = run(
            picture_folder,
            f"--model=ours={folder / 'model'}",
            f"--completions=truth={folder / 'truth'}",
            "--best_of_100",
            "--seconds=0",
            f"--num_examples={NUM_EXAMPLES}",
            f"--output={folder / 'out'}",
        )
    assert status == 0
    return folder / "out"


@pytest.fixture(scope="module")
def rows(output):
    return json.loads((output / "photographs.json").read_text())["rows"]


@pytest.mark.slow
def test_rows_are_in_order_and_known_pixels_stay(rows):
    assert list(rows) == ROWS
    for name, row in rows.items():
        changed = row["figures"]["known_pixels_changed"]
        assert changed == (NUM_EXAMPLES if name == "truth" else 0), name
        assert row["figures"]["hole_share"] == 0.25


@pytest.mark.slow
def test_the_mean_colour_is_one_answer_with_the_error_worked_out_by_hand(rows, picture_folder):
    figures = rows["mean colour"]["figures"]
    assert set(figures["diversity"].values()) == {0}
    errors = []
    for truth in pictures(picture_folder, "test")[:NUM_EXAMPLES]:
        known = np.ones((SIDE, SIDE), bool)
        known[HOLE, HOLE] = False
        colour = np.round(truth[known].mean(axis=0))
        errors.append(np.abs(truth[HOLE, HOLE] - colour).mean() / 255)
    to_truth = figures["samples"]["hole_l1"]
    assert to_truth["mean_of_k"] == to_truth["best_of_k"] == pytest.approx(np.mean(errors))


@pytest.mark.slow
def test_the_truth_has_the_best_figures(rows):
    row = rows["truth"]
    for name in ("fd_vgg16", "fd_vgg16_hole"):
        assert row["sets"][name] == pytest.approx(0, abs=1e-2)
        assert rows["mean colour"]["sets"][name] > 1
    assert row["sets"]["precision"] == row["sets"]["recall"] == 1
    assert row["figures"]["samples"]["lpips"]["mean_of_k"] == pytest.approx(0, abs=1e-6)
    assert row["figures"]["diversity"]["lpips_hole"] == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_random_rows_differ_and_more_completions_come_nearer(rows):
    for name in ("another's pasted in", "ours"):
        row = rows[name]
        best_of_8 = row["figures"]["samples"]["lpips"]["best_of_k"]
        assert row["figures"]["diversity"]["lpips_hole"] > 1e-3
        # The eight are among the many.
        assert 0 < row["lpips_best_of_100"] <= best_of_8
    assert rows["ours"]["figures"]["reconstruction"]["hole_psnr"] > 0
    assert not any("lpips_best_of_100" in rows[name] for name in ("mean colour", "truth"))


@pytest.mark.slow
def test_methods_are_timed_and_files_are_not(rows):
    for name in ("mean colour", "ours"):
        assert rows[name]["ms_a_completion"] > 0
    assert (
        rows["truth"]["ms_a_completion"] is rows["another's pasted in"]["ms_a_completion"] is None
    )


@pytest.mark.slow
def test_the_table_has_a_line_a_row_and_says_n_and_k(output):
    text = (output / "photographs.md").read_text()
    head, _, *lines = text.split("\n\n")[0].splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ROWS
    assert len({line.count("|") for line in (head, *lines)}) == 1
    cells = dict(zip(head.split("|"), lines[0].split("|"), strict=True))
    assert cells[" LPIPS between completions "] == cells[" the same in the hole "] == " 0.000 "
    assert cells[" own code, hole PSNR (dB) "] == " - "
    assert "N = 6 pictures, K = 8 completions" in text
    assert "truth altered known pixels in 6 completions" in text
    # Twelve columns: masked, truth, the mean colour and three of each of three rows.
    height, width, _ = read_image(output / "contact_sheet.png").shape
    assert 12 * 96 < width < 13 * 102 and 6 * 96 < height < 7 * 102


@pytest.mark.parametrize("name", photographs.FILLS)
def test_a_picture_of_one_colour_is_completed_with_it(name):
    picture = np.full((64, 64, 3), (200, 30, 90), np.uint8)
    mask = np.zeros((64, 64, 1), np.uint8)
    mask[16:48, 16:48] = 1
    hidden = np.where(mask == 1, np.uint8(0), picture)
    filled = photographs.FILLS[name](hidden, mask)
    # Telea's is off by a few levels.
    np.testing.assert_allclose(filled.astype(int), picture, atol=5)


def test_pasted_are_training_pictures_at_the_same_place(picture_folder):
    train, test = (pictures(picture_folder, split) for split in ("train", "test"))
    source = open_source(f"folder:{picture_folder}", split="train", image_size=SIDE)
    masks = np.zeros((2, SIDE, SIDE, 1), np.uint8)
    masks[:, HOLE, HOLE] = 1
    index = np.array([0, 5])
    pasted = photographs.paste_others(source, SIDE, 4, test[index], masks, index)
    np.testing.assert_array_equal(pasted[:, 0, : HOLE.start], test[index, : HOLE.start])
    holes = {picture[HOLE, HOLE].tobytes() for picture in train}
    assert all(picture[HOLE, HOLE].tobytes() in holes for row in pasted for picture in row)
    alone = photographs.paste_others(source, SIDE, 4, test[5:6], masks[:1], index[1:])
    np.testing.assert_array_equal(alone[0], pasted[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image_size=8"], r"--image_size \(8\) must be at least 16"),
        (["--num_examples=0"], r"--num_examples \(0\) must be at least 1"),
        (["--num_examples=5"], "5 pictures are too few: precision and recall need more than 5"),
        (["--model=ours"], "--model=ours must be --model=NAME=PATH"),
        (["--model=a=nowhere"], "nowhere is neither a run's workdir"),
        (["--completions=PatchMatch=x"], "Two rows are called 'PatchMatch'"),
        (["--completions=a=nowhere"], "nowhere must be a folder of completions"),
        (["--completions_of_100=a=x"], "needs --completions=a=FOLDER and --best_of_100"),
    ],
)
def test_a_wrong_argument_is_one_line(picture_folder, tmp_path, arguments, message, capsys):
    assert run(picture_folder, f"--output={tmp_path / 'out'}", *arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "out" / "photographs.json").exists()


def test_a_model_of_another_side_is_refused(picture_folder, tmp_path, inpainter, capsys):
    inpainter.save(tmp_path / "model")
    arguments = [f"--model=a={tmp_path / 'model'}", "--image_size=64"]
    assert run(picture_folder, f"--output={tmp_path / 'out'}", *arguments) == 1
    assert "a model for 32 px, but --image_size is 64" in capsys.readouterr().err
