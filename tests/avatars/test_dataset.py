import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from uctgan_jax.avatars import dataset as avatars
from uctgan_jax.avatars.dataset import (
    ATTRIBUTES,
    FACE_ATTRIBUTES,
    HATS,
    Avatars,
    avatars_config,
    canonical,
    prepared_avatars,
    render,
    sample_attributes,
)
from uctgan_jax.data.workers import cpu_count
from uctgan_jax.images import read_image

ROOT = Path(__file__).parents[2]

WINDOW = (slice(16, 51), slice(16, 48))  # rows, columns at 64 px


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return prepared_avatars(32, data_dir=tmp_path_factory.mktemp("tfds"), examples=(24, 4, 5))


def records(builder, split):
    return builder.as_data_source(split=split, decoders={"image": tfds.decode.SkipDecoding()})


def test_stored_examples_are_what_the_public_functions_give(small):
    for split, count in zip(avatars.SPLITS, (24, 4, 5), strict=True):
        stored = records(small, split)
        assert len(stored) == count
        for i, record in enumerate(stored):
            attributes = sample_attributes(split, i)
            assert {name: int(record[name]) for name in ATTRIBUTES} == attributes
            np.testing.assert_array_equal(read_image(record["image"]), render(attributes, 32))


def test_labels_carry_their_names(small):
    for name, values in ATTRIBUTES.items():
        assert tuple(small.info.features[name].names) == values


def test_a_small_set_is_a_prefix_of_a_larger_one_and_lies_beside_it(small):
    data_dir = Path(small.data_dir).parents[2]
    smaller = prepared_avatars(32, data_dir=data_dir, examples=(6, 2, 2))
    assert smaller.data_dir != small.data_dir and Path(small.data_dir).exists()
    pairs = zip(records(smaller, "train"), records(small, "train"), strict=False)
    assert all(a["image"] == b["image"] for a, b in pairs)
    assert avatars_config(32).name == "32"


def test_pictures_drawn_in_several_processes_are_the_same_in_order(tmp_path):
    builder = prepared_avatars(32, data_dir=tmp_path, examples=(600, 1, 1))
    stored = records(builder, "train")
    assert len(stored) == 600
    for i in (0, 1, 63, 64, 65, 300, 599):
        expected = render(sample_attributes("train", i), 32)
        np.testing.assert_array_equal(read_image(stored[i]["image"]), expected)


@pytest.mark.slow
def test_a_large_set_is_written_shard_by_shard_in_order(tmp_path):
    """Left to cut the shards, TFDS needs TensorFlow for more than it holds in memory."""
    builder = prepared_avatars(32, data_dir=tmp_path, examples=(16_400, 1, 1))
    assert list(builder.info.splits["train"].shard_lengths) == [16_384, 16]
    stored = records(builder, "train")
    for i in (0, 16_383, 16_384, 16_399):
        expected = render(sample_attributes("train", i), 32)
        np.testing.assert_array_equal(read_image(stored[i]["image"]), expected)


def run_script(tmp_path, text):
    script = tmp_path / "script.py"
    script.write_text("from uctgan_jax.avatars.dataset import prepared_avatars\n" + text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, script], env=environment, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_build_leaves_no_set_and_the_next_one_cleans_up(tmp_path):
    examples = (3, 1, 1)
    folder = tmp_path / "avatars" / "32_3_1_1"
    process = run_script(
        tmp_path,
        "import os, uctgan_jax.avatars.dataset as dataset\n"
        "dataset.render = lambda *arguments: os.kill(os.getpid(), 9)\n"
        f"prepared_avatars(32, data_dir={str(tmp_path)!r}, examples={examples})\n",
    )
    process.communicate()
    (remains,) = [path for path in folder.iterdir() if path.is_dir()]
    assert remains.name.startswith("incomplete") and process.returncode == -signal.SIGKILL
    builder = prepared_avatars(32, data_dir=tmp_path, examples=examples)
    assert len(records(builder, "train")) == 3
    assert not remains.exists()


@pytest.mark.slow
@pytest.mark.skipif(cpu_count() == 1, reason="one processor draws without worker processes")
def test_a_script_without_a_main_guard_fails_instead_of_hanging(tmp_path):
    process = run_script(
        tmp_path, f"prepared_avatars(32, data_dir={str(tmp_path)!r}, examples=(600, 1, 1))\n"
    )
    _, errors = process.communicate()
    assert process.returncode != 0 and "if __name__ == '__main__'" in errors


def test_the_command_line_draws_a_set(tmp_path):
    arguments = ["--size=32", "--examples=3,1,1", f"--data_dir={tmp_path}"]
    command = [sys.executable, "-m", "uctgan_jax.avatars", *arguments]
    end = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert end.returncode == 0, end.stderr
    builder = avatars.avatars_builder(32, data_dir=tmp_path, examples=(3, 1, 1))
    assert len(records(builder, "train")) == 3


def test_attributes_do_not_change_between_releases():
    # If this fails, the data set has changed: raise VERSION.
    drawn = [list(sample_attributes(split, i).values()) for split in avatars.SPLITS for i in (0, 7)]
    assert hashlib.sha256(repr(drawn).encode()).hexdigest()[:16] == "2cdec418ae49e901"


def test_pictures_do_not_change_between_releases_of_the_renderer():
    # Close, not equal: another processor may round another way. If it fails, raise VERSION.
    mean = np.mean([render(sample_attributes("test", i), 32) for i in range(20)], axis=(0, 1, 2))
    np.testing.assert_allclose(mean, [152.982, 148.872, 129.82], atol=0.02)


def test_attributes_are_uniform_over_all_values():
    n = 3000
    drawn = [sample_attributes("train", i) for i in range(n)]
    for name, values in ATTRIBUTES.items():
        counts = Counter(attributes[name] for attributes in drawn)
        assert set(counts) == set(range(len(values)))
        expected = n / len(values)
        chi2 = sum((counts[v] - expected) ** 2 / expected for v in range(len(values)))
        assert chi2 < len(values) + 5 * np.sqrt(2 * len(values)), name


def test_every_value_can_be_drawn_and_shows():
    base = sample_attributes("train", 0)
    for name, values in ATTRIBUTES.items():
        # Others such that the attribute is visible: a beard, no glasses, hair (or a hat).
        others = {**base, "facial_hair": 3, "accessory": 0, "top": ATTRIBUTES["top"].index("bob")}
        if name == "hat_color":
            others["top"] = ATTRIBUTES["top"].index("turban")
        pictures = {render({**others, name: v}, 64).tobytes() for v in range(len(values))}
        if name == "mouth":  # under the beard the straight mouths may look alike
            assert len(pictures) >= len(values) - 1
        else:
            assert len(pictures) == len(values), name


def test_canonical_gives_the_same_picture_for_every_top():
    for top, name in enumerate(ATTRIBUTES["top"]):
        attributes = {**sample_attributes("test", top), "top": top, "facial_hair": top % 2}
        attributes |= {"hair_color": 5, "hat_color": 5, "facial_hair_color": 5}
        hidden = [k for k, v in canonical(attributes).items() if v != attributes[k]]
        assert ("hat_color" in hidden) == (name not in HATS)
        np.testing.assert_array_equal(
            render(attributes, 32), render(canonical(attributes), 32), err_msg=name
        )
        visible = "hat_color" if name in HATS else "hair_color"
        if name != "none":  # and what is left does show
            assert (render(attributes | {visible: 8}, 32) != render(attributes, 32)).any(), name


def test_face_attributes_change_the_window_only():
    eyepatch = ATTRIBUTES["accessory"].index("eyepatch")
    outside = np.ones((64, 64), bool)
    outside[WINDOW] = False
    for top in range(0, len(ATTRIBUTES["top"]), 9):
        base = {**sample_attributes("test", 3), "top": top}
        for name in FACE_ATTRIBUTES:
            pictures = [
                render({**base, name: value}, 64)[outside]
                for value in range(len(ATTRIBUTES[name]))
                if (name, value) != ("accessory", eyepatch)
            ]
            assert all((picture == pictures[0]).all() for picture in pictures), (top, name)


def test_no_colour_melts_into_the_background():
    def rgb(code):
        return np.array([int(code[k : k + 2], 16) for k in (1, 3, 5)], int)

    for background in avatars.BACKGROUNDS.values():
        palettes = (avatars.SKINS, avatars.HAIR_COLORS, avatars.CLOTH_COLORS)
        for colour in (code for palette in palettes for code in palette.values()):
            assert np.linalg.norm(rgb(background) - rgb(colour)) > 20, (background, colour)


def test_errors():
    with pytest.raises(ValueError, match="Unknown split 'val'"):
        sample_attributes("val", 0)
    with pytest.raises(ValueError, match=r"nose \(3\) must be in \[0, 3\)"):
        render({**sample_attributes("test", 0), "nose": 3}, 32)
    with pytest.raises(ValueError, match="differing: nose"):
        render({k: v for k, v in sample_attributes("test", 0).items() if k != "nose"}, 32)
    with pytest.raises(ValueError, match=r"side \(48\) must be one of 32, 64"):
        avatars_config(48)
    with pytest.raises(ValueError, match="three positive counts"):
        avatars_config(32, (10, 0, 5))


def test_tfds_finds_the_default_configs():
    assert set(Avatars.builder_configs) == {"32", "64", "128", "256"}


@pytest.mark.parametrize(
    ("examples", "folder"),
    [(avatars.DEFAULT_EXAMPLES, "avatars/32"), ((24, 4, 4), "avatars/32_24_4_4")],
)
def test_the_default_set_and_a_smaller_one_have_their_own_folders(tmp_path, examples, folder):
    builder = avatars.avatars_builder(32, data_dir=tmp_path, examples=examples)
    assert folder in builder.data_dir
    assert {builder.builder_config.examples, examples} == {examples}
