"""`evaluate.py` with an untrained model and with a run's checkpoints."""

import json
import subprocess
import sys
from pathlib import Path

import ml_collections
import numpy as np
import pytest

from tests.conftest import TINY_PRIOR, config_file, run_config, run_program
from uctgan_jax import Inpainter
from uctgan_jax.images import read_image, read_mask, write_image
from uctgan_jax.programs import evaluate

ROOT = Path(__file__).parents[1]
K = 2


@pytest.fixture
def config(picture_folder) -> ml_collections.ConfigDict:
    """Names four pictures, K = 2."""
    config = run_config(picture_folder)
    config.eval.update(num_examples=4, num_samples=K, batch_size=2)
    return config


@pytest.fixture(scope="module")
def model(inpainter, picture_folder, tmp_path_factory) -> Path:
    """A saved model whose own config is the same as `config`."""
    config = run_config(picture_folder)
    config.eval.update(num_examples=4, num_samples=K, batch_size=2)
    config.prior = TINY_PRIOR
    folder = tmp_path_factory.mktemp("model") / "weights"
    Inpainter(config, inpainter.params, step=7, digest="").save(folder)
    return folder


@pytest.fixture
def run(tmp_path, model):
    """Runs the command line in this process; gives the report and its folder."""

    def call(config=None, status=0, more=(), **options):
        path = tmp_path / "new" / "report.json"
        flags = {"workdir": model, "output": path, **options}
        if config is not None:
            flags["config"] = config_file(config, tmp_path)
        arguments = [f"--{name}={value}" for name, value in flags.items()]
        assert run_program(evaluate.main, *arguments, *more) == status
        return json.loads(path.read_text()) if path.exists() else None, path.parent

    return call


def test_completion_leaves_a_report_in_three_forms_and_sheets(run, model, capsys):
    report, folder = run()
    assert {p.name for p in folder.iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
        "report.cache",
        "contact_sheet.png",
        *(
            f"contact_sheet_{title}.png"
            for title in ("most_diverse", "least_diverse", "best_realism", "worst_realism")
        ),
    }
    assert report["shown"]["first pictures"] == [0, 1, 2, 3]
    assert "contact_sheet_worst_realism.png" in (folder / "report.md").read_text()
    assert (report["num_examples"], report["num_samples"], report["num_pairs"]) == (4, K, 1)
    digest = Inpainter.load(model).digest
    checkpoint = {"workdir": str(model), "step": 7, "digest": digest}
    assert report["checkpoint"] == checkpoint
    assert report["mask"]["kind"] == "center"
    assert report["figures"]["known_pixels_changed"] == 0
    assert {"versions", "command", "date", "hardware", "data"} <= set(report)
    assert "hole PSNR" in capsys.readouterr().out

    # Started again, nothing is measured twice.
    again, _ = run()
    assert again["figures"] == report["figures"] and again["shown"] == report["shown"]
    assert "model: 4 pictures were measured before" in capsys.readouterr().out


def test_the_model_by_way_of_files_has_its_own_figures(run, config, tmp_path, capsys):
    """Completions as another program leaves them that draws as the model does."""
    config.eval.update(num_examples=7)
    assert run(config=config, export_inputs=tmp_path / "inputs")[0] is None
    inputs = sorted((tmp_path / "inputs").glob("??????.png"))
    assert len(inputs) == 7
    rng = np.random.default_rng(0)
    for path in inputs:
        image = read_image(path)
        mask = read_mask(path.with_name(f"{path.stem}_mask.png"))
        for k in range(K):
            noise = rng.integers(0, 256, image.shape, dtype=np.uint8)
            completion = np.where(mask == 1, noise, image)
            completion[mask[..., 0] == 0] ^= np.uint8(k == 1)  # a careless program
            write_image(tmp_path / "mine" / f"{path.stem}_{k:03d}.png", completion)
    report, folder = run(config, protocol="paper", compare=tmp_path / "mine")
    mine = report["compared"]["mine"]
    assert mine["figures"]["known_pixels_changed"] == 7
    assert report["features"]["distance"] == "FD-vgg16, not FID"
    assert {"fd_vgg16", "fd_vgg16_hole", "precision", "p_ids"} <= set(report["sets"])
    assert mine["sets"].keys() == report["sets"].keys()
    assert mine["sets"]["fd_vgg16_hole"] > 0
    # Masked pixels and truths are the same for both.
    assert mine["figures"]["mean_colour_fill"] == report["figures"]["mean_colour_fill"]
    assert "mine: best of K" in (folder / "report.html").read_text()
    assert (folder / "contact_sheet_mine_first_pictures.png").exists()
    assert "pt_inception-2015-12-05" in capsys.readouterr().out

    (tmp_path / "mine").rename(tmp_path / "a b")
    run(config, compare=tmp_path / "a b", status=1, more=[f"--compare={tmp_path / 'a-b'}"])
    assert "another system is called 'a-b' already" in capsys.readouterr().err


@pytest.mark.slow
def test_several_checkpoints_give_curves(run, straight, capsys):
    workdir, _ = straight
    report, folder = run(workdir=workdir, steps="all")
    assert [point["step"] for point in report["training"]] == [3, 6]
    assert report["training"][-1]["figures"] == report["figures"]
    assert report["training"][0]["figures"] != report["figures"]
    assert "<svg" in (folder / "report.html").read_text()
    assert (folder / "curves.svg").exists()
    report, _ = run(workdir=workdir, steps="3")
    assert report["checkpoint"]["step"] == 3 and "training" not in report
    run(workdir=workdir, steps="3,5", status=1)
    assert "has checkpoints of the steps [3, 6]" in capsys.readouterr().err


def test_fields_change_the_models_own_config(run, straight, model, capsys):
    few = ["--config.eval.num_examples=2", "--config.mask.hole_share=(0.1, 0.2)"]
    for workdir in (model, straight[0]):  # weights, and a run
        report, _ = run(more=few, workdir=workdir)
        assert report["num_examples"] == 2
        assert report["mask"]["hole_share"] == [0.1, 0.2]
        assert "CelebA-HQ" not in capsys.readouterr().out  # published figures of other pictures


def test_one_completion_of_one_picture_leaves_out_what_needs_more(run, config):
    config.eval.update(num_samples=1, num_examples=1)
    report, folder = run(config)
    assert report["shown"] == {"first pictures": [0]}
    assert [p.name for p in folder.glob("*.png")] == ["contact_sheet.png"]
    assert report["figures"]["diversity"]["lpips_hole"] is None


def test_posterior_puts_the_oracle_beside_the_model(run, config):
    config.eval.update(num_examples=1)
    report, folder = run(config, protocol="posterior")
    assert list(report["figures"]) == ["model", "own codes", "oracle", "mean colour", "telea"]
    assert report["figures"]["oracle"]["validity"] == 1
    assert report["mask"]["kind"] == "window" and report["data"]["source"] == "avatars"
    assert "Against the exact posterior" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"output": "."}, "must be a file, but is a folder"),
        ({"output": "report.md"}, "report.md must not end in .md"),
        ({"inception_weights": "missing.pth"}, "--inception_weights is for --protocol=paper"),
        ({"export_inputs": "inputs", "compare": "."}, "--export_inputs measures nothing"),
        ({"protocol": "paper", "inception_weights": "missing.pth"}, "No such file"),
        ({"steps": "4,last"}, "must be all, or steps as in"),
        ({"steps": "4"}, "has checkpoints of the steps [7]"),
        ({"protocol": "posterior", "compare": "."}, "for the protocols completion and paper"),
        ({"compare": "."}, "has no completion of 4 of 4 pictures: 000000"),
    ],
)
def test_what_cannot_work_is_said_before_any_work(
    run, tmp_path, monkeypatch, capsys, options, rule
):
    monkeypatch.chdir(tmp_path)
    run(**options, status=1)
    assert rule in capsys.readouterr().err


def test_what_no_config_may_hold_is_named(run, config, capsys):
    for field, value, rule in [
        ("eval.num_pairs", 0, "eval.num_pairs (0) must be 1 or more"),
        ("image_size", 64, "(64) in --config must be that of the model"),
    ]:
        changed = ml_collections.ConfigDict(config.to_dict())
        changed.update_from_flattened_dict({field: value})
        run(changed, status=1)
        assert rule in capsys.readouterr().err


def test_a_mistake_is_one_line(tmp_path):
    command = [sys.executable, "evaluate.py", "--workdir=nowhere", f"--output={tmp_path}/r.json"]
    environment = {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    end = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert end.returncode == 1
    assert end.stderr.startswith("evaluate.py: nowhere is neither a run's workdir")
