"""`inpaint.py` from files to files."""

import jax
import numpy as np
import pytest

import inpaint
from tests.conftest import run_config
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.images import read_image, write_image
from uctgan_jax.train_state import create_train_state
from uctgan_jax.training import config_dict, make_optimizers

HOLE = np.s_[10:30, 12:40]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, networks, picture_folder):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    config = run_config(picture_folder)
    optimizers = make_optimizers(**config.optimizer)
    create = jax.jit(lambda: create_train_state(jax.random.key(0), networks, optimizers))
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(jax.device_get(create()), config_dict(config), error=1.0)
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


def run(checkpoint, folder, *flags, image="p.png", mask="m.png"):
    inpaint.main(
        [
            f"--checkpoint={checkpoint}",
            f"--image={folder / image}",
            f"--mask={folder / mask}",
            f"--output={folder / 'out'}",
            "--num_samples=3",
            *flags,
        ]
    )
    return {path.name: read_image(path) for path in sorted((folder / "out").iterdir())}


def test_writes_every_completion_and_a_grid(checkpoint, files):
    folder, image = files
    out = run(checkpoint, folder)
    assert list(out) == ["000.png", "001.png", "002.png", "grid.png"]
    known = np.ones((40, 56), bool)
    known[HOLE] = False
    for name in ("000.png", "001.png", "002.png"):
        np.testing.assert_array_equal(out[name][known], image[known])
    assert not np.array_equal(out["000.png"], out["001.png"])
    assert out["grid.png"].shape[1] > 5 * 56

    again = run(checkpoint, folder)
    other = run(checkpoint, folder, "--seed=1")
    np.testing.assert_array_equal(again["002.png"], out["002.png"])
    assert not np.array_equal(other["002.png"], out["002.png"])


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(image="missing.png"), "missing.png"),
        (dict(image="text.png"), "text.png"),
        (dict(mask="small.png"), r"small.png: the mask is 20 x 56"),
        (dict(), "nowhere"),
    ],
)
def test_bad_files_are_named_before_the_model_is_loaded(files, changes, message):
    folder, image = files
    write_image(folder / "small.png", image[:20])
    (folder / "text.png").write_text("not a picture")
    with pytest.raises(SystemExit, match=f"^inpaint.py: .*{message}"):
        run(folder / "nowhere", folder, **changes)


@pytest.mark.parametrize(("value", "message"), [(0, "empty"), (255, "full")])
def test_empty_and_full_masks_are_refused(checkpoint, files, value, message):
    folder, image = files
    write_image(folder / "flat.png", np.full_like(image, value))
    with pytest.raises(SystemExit, match=f"the mask is {message}"):
        run(checkpoint, folder, mask="flat.png")
