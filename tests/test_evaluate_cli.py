import json

import numpy as np
import pytest
from absl.testing import flagsaver

import evaluate
from tests.conftest import run_config


class FakeInpainter:
    """Fills the hole with grey, a little lighter for each completion."""

    step, digest, image_size = 6, "abc", 32

    def sample(self, images, masks, keys, num_samples):
        greys = 100 + 5 * np.arange(num_samples, dtype=np.uint8)[:, None, None, None]
        return np.where(masks[:, None] == 1, greys, images[:, None])

    def reconstruct(self, images, masks):
        return np.where(masks == 1, images // 2, images)


@pytest.fixture
def run(tmp_path, picture_folder, monkeypatch):
    """Runs the command line with a model that needs no training; gives the report."""
    model = FakeInpainter()
    model.config = run_config(picture_folder)
    model.config.eval.num_examples = 7
    monkeypatch.setattr(evaluate.Inpainter, "load", lambda workdir: model)
    flags = evaluate.flags.FLAGS
    if not flags.is_parsed():
        flags(["evaluate.py"])

    def call(**options):
        path = tmp_path / "new" / "report.json"
        with flagsaver.flagsaver(**{"workdir": "run", "output": str(path), **options}):
            evaluate.main(["evaluate.py"])
        return json.loads(path.read_text()), path.parent

    call.config = model.config
    return call


def test_completion_leaves_a_report_in_three_forms_and_a_sheet(run, capsys):
    report, folder = run()
    assert {p.name for p in folder.iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
        "contact_sheet.png",
    }
    assert report["num_examples"] == 7 and report["num_samples"] == 3 and report["num_pairs"] == 3
    assert report["checkpoint"] == {"workdir": "run", "step": 6, "digest": "abc"}
    assert report["mask"]["kind"] == "center"
    assert report["figures"]["known_pixels_identical"] is True
    assert {"versions", "command", "date", "hardware", "data"} <= set(report)
    assert "hole PSNR" in capsys.readouterr().out


def test_paper_names_its_proxies(run, capsys):
    report, _ = run(protocol="paper")
    assert report["features"]["frechet_distance"] == "FD-vgg16, not FID"
    assert {"frechet_distance", "precision", "p_ids"} <= set(report["sets"])
    assert "inception_score" not in report["sets"]
    assert "pt_inception-2015-12-05" in capsys.readouterr().out


def test_posterior_puts_the_oracle_beside_the_model(run):
    run.config.eval.num_examples = 2
    report, folder = run(protocol="posterior")
    assert list(report["figures"]) == ["model", "oracle", "mean colour", "telea"]
    assert report["figures"]["oracle"]["validity"] == 1
    assert report["mask"]["kind"] == "window" and report["data"]["image_size"] == 32
    assert "Against the exact posterior" in (folder / "report.html").read_text()


def test_what_cannot_work_is_one_line_before_any_work(run, tmp_path):
    with pytest.raises(SystemExit, match="must be a file, but is a folder"):
        run(output=str(tmp_path))
    with pytest.raises(SystemExit, match="No such file"):
        run(protocol="paper", inception_weights=str(tmp_path / "missing.pth"))
    run.config.image_size = 64
    with pytest.raises(SystemExit, match=r"\(64\) in --config must be that of the model"):
        run()
