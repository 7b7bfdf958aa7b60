import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from absl.testing import flagsaver

import evaluate
from tests.conftest import run_config
from uctgan_jax.evaluation import evaluate as evaluation
from uctgan_jax.images import read_image, read_mask, write_image


class FakeInpainter:
    """Fills the hole with grey, a little lighter for each completion."""

    image_size = 32
    devices = jax.devices()[:1]

    def __init__(self, step=6):
        self.step, self.digest = step, f"digest of {step}"

    def at(self, workdir, step=None, guidance=None):
        model = FakeInpainter(step or 6)
        model.config = self.config
        own = {2: 1.5}.get(model.step, 1.0)
        model.networks = SimpleNamespace(guidance=guidance or own)
        return model

    def sample(self, images, masks, keys, num_samples):
        greys = (
            10 * self.step + 40 + 5 * np.arange(num_samples, dtype=np.uint8)[:, None, None, None]
        )
        return np.where(masks[:, None] == 1, greys, images[:, None])

    def reconstruct(self, images, masks):
        return np.where(masks == 1, images // 2, images)


@pytest.fixture
def run(tmp_path, picture_folder, monkeypatch):
    """Runs the command line with a model that needs no training; gives the report."""
    model = FakeInpainter()
    model.config = run_config(picture_folder)
    model.config.eval.num_examples = 7
    monkeypatch.setattr(evaluate.Inpainter, "load", model.at)
    monkeypatch.setattr(evaluate, "saved_steps", lambda workdir: [2, 4, 6])
    flags = evaluate.flags.FLAGS
    if not flags.is_parsed():
        flags(["evaluate.py"])

    def call(**options):
        path = tmp_path / "new" / "report.json"
        with flagsaver.flagsaver(**{"workdir": "run", "output": str(path), **options}):
            evaluate.main(["evaluate.py"])
        return json.loads(path.read_text()) if path.exists() else None, path.parent

    call.config = model.config
    return call


def test_completion_leaves_a_report_in_three_forms_and_sheets(run, capsys):
    report, folder = run()
    assert {p.name for p in folder.iterdir()} == {
        "report.json",
        "report.md",
        "report.html",
        "report.records",
        "contact_sheet.png",
        *(
            f"contact_sheet_{title}.png"
            for title in ("most_diverse", "least_diverse", "best_realism", "worst_realism")
        ),
    }
    assert report["shown"]["first pictures"] == list(range(7))
    assert len(report["shown"]["worst realism"]) == 3
    assert "contact_sheet_worst_realism.png" in (folder / "report.md").read_text()
    assert report["num_examples"] == 7 and report["num_samples"] == 3 and report["num_pairs"] == 3
    checkpoint = {"workdir": "run", "step": 6, "digest": "digest of 6", "guidance": 1}
    assert report["checkpoint"] == checkpoint
    assert report["mask"]["kind"] == "center"
    assert report["figures"]["known_pixels_changed"] == 0
    assert {"versions", "command", "date", "hardware", "data"} <= set(report)
    assert "hole PSNR" in capsys.readouterr().out


def test_paper_names_its_proxies(run, capsys):
    report, _ = run(protocol="paper")
    assert report["features"]["frechet_distance"] == "FD-vgg16, not FID"
    assert {"frechet_distance", "precision", "p_ids"} <= set(report["sets"])
    assert "inception_score" not in report["sets"]
    assert "pt_inception-2015-12-05" in capsys.readouterr().out


def export(run, folder):
    report, _ = run(export_inputs=str(folder))
    assert report is None  # nothing is measured
    return sorted(folder.glob("??????.png"))


@pytest.mark.parametrize("protocol", ["completion", "paper"])
def test_the_model_by_way_of_files_has_its_own_figures(run, tmp_path, protocol):
    """Completions as another program leaves them that fills holes as the model does."""
    inputs = export(run, tmp_path / "inputs")
    assert len(inputs) == 7
    for path in inputs:
        image = read_image(path)[None]
        mask = read_mask(path.with_name(f"{path.stem}_mask.png"))[None]
        for k, completion in enumerate(FakeInpainter().sample(image, mask, None, 3)[0]):
            completion[mask[0, ..., 0] == 0] ^= np.uint8(k == 2)  # a careless program
            write_image(tmp_path / "mine" / f"{path.stem}_{k:03d}.png", completion)
    report, folder = run(protocol=protocol, compare=[str(tmp_path / "mine")])
    mine, figures = report["compared"]["mine"], report["figures"]
    assert mine["figures"]["known_pixels_changed"] == 7
    assert mine["figures"]["samples"].keys() == figures["samples"].keys()
    for name, values in figures["samples"].items():
        assert mine["figures"]["samples"][name] == pytest.approx(values, rel=1e-5), name
    assert mine["figures"]["diversity"] == pytest.approx(figures["diversity"], rel=1e-5)
    assert ("sets" in mine) == (protocol == "paper")
    assert mine.get("sets", {}) == pytest.approx(report.get("sets", {}), rel=1e-5)
    assert mine["shown"] == report["shown"]
    assert "mine: best of K" in (folder / "report.html").read_text()
    assert (folder / "contact_sheet_mine_first_pictures.png").exists()

    (tmp_path / "mine").rename(tmp_path / "a b")
    with pytest.raises(SystemExit, match="another system is called 'a-b' already"):
        run(compare=[str(tmp_path / "a b"), str(tmp_path / "a-b")])


def test_several_checkpoints_give_curves(run):
    report, folder = run(steps="all")
    assert [point["step"] for point in report["training"]] == [2, 4, 6]
    assert report["training"][-1]["figures"] == report["figures"]
    assert report["training"][0]["figures"] != report["figures"]
    assert "<svg" in (folder / "report.html").read_text()
    assert (folder / "curves.svg").exists()
    heads = [path.read_text().split("\n")[0] for path in (folder / "report.records").iterdir()]
    filed = [json.loads(head)["options"] for head in heads]
    guidances = {options["completions_of"]: options["guidance"] for options in filed}
    assert guidances == {"digest of 2": 1.5, "digest of 4": 1.0, "digest of 6": 1.0}
    report, _ = run(steps="4")
    assert report["checkpoint"]["step"] == 4 and "training" not in report
    report, _ = run(guidance=2.0)
    assert report["checkpoint"]["guidance"] == 2


def test_one_completion_of_one_picture_leaves_out_what_needs_more(run):
    run.config.eval.num_samples = run.config.eval.num_examples = 1
    report, folder = run(steps="all")
    assert report["shown"] == {"first pictures": [0]}
    assert [p.name for p in folder.glob("*.png")] == ["contact_sheet.png"]
    assert "I_out(m): pairs" not in (folder / "report.md").read_text()


def test_started_again_nothing_is_measured_twice(run, monkeypatch, capsys):
    report, _ = run()
    monkeypatch.setattr(evaluation, "measure", None)
    again, _ = run()
    assert again["figures"] == report["figures"] and again["shown"] == report["shown"]
    assert "7 pictures were measured before" in capsys.readouterr().out
    for other in ({"steps": "4"}, {"guidance": 2.0}):
        with pytest.raises(TypeError):  # another checkpoint starts afresh, and other guidance
            run(**other)


def test_posterior_puts_the_oracle_beside_the_model(run):
    run.config.eval.num_examples = 2
    report, folder = run(protocol="posterior", steps="2,6")
    systems = ["step 2", "model", "own codes", "oracle", "mean colour", "telea"]
    assert list(report["figures"]) == systems
    assert [point["step"] for point in report["training"]] == [2, 6]
    assert report["figures"]["oracle"]["validity"] == 1
    assert report["mask"]["kind"] == "window" and report["data"]["image_size"] == 32
    assert "Against the exact posterior" in (folder / "report.html").read_text()


def test_a_second_report_in_a_folder_has_its_own_pictures(run, tmp_path):
    run(output=str(tmp_path / "report.json"))
    first = (tmp_path / "contact_sheet.png").read_bytes()
    run.config.eval.num_samples = 2
    run(output=str(tmp_path / "second.json"))
    assert (tmp_path / "contact_sheet.png").read_bytes() == first
    assert (tmp_path / "second_contact_sheet.png").read_bytes() != first
    assert "(second_contact_sheet.png)" in (tmp_path / "second.md").read_text()
    assert "(contact_sheet.png)" in (tmp_path / "report.md").read_text()


def test_what_cannot_work_is_one_line_before_any_work(run, tmp_path):
    with pytest.raises(SystemExit, match="must be a file, but is a folder"):
        run(output=str(tmp_path))
    with pytest.raises(SystemExit, match=r"report.md must not end in .md"):
        run(output=str(tmp_path / "report.md"))
    with pytest.raises(SystemExit, match="--inception_weights is for --protocol=paper"):
        run(inception_weights=str(tmp_path / "missing.pth"))
    with pytest.raises(SystemExit, match="--export_inputs measures nothing"):
        run(export_inputs=str(tmp_path / "inputs"), compare=[str(tmp_path)])
    with run.config.eval.unlocked():
        for name in ("num_pairs", "batch_size"):
            value, run.config.eval[name] = run.config.eval[name], 0
            with pytest.raises(SystemExit, match=rf"eval.{name} \(0\) must be 1 or more"):
                run()
            run.config.eval[name] = value
    with pytest.raises(SystemExit, match="No such file"):
        run(protocol="paper", inception_weights=str(tmp_path / "missing.pth"))
    with pytest.raises(SystemExit, match=r"has checkpoints of the steps \[2, 4, 6\]"):
        run(steps="4,5")
    with pytest.raises(SystemExit, match="must be all, or steps as in"):
        run(steps="4,last")
    with pytest.raises(SystemExit, match="for the protocols completion and paper"):
        run(protocol="posterior", compare=[str(tmp_path)])
    with pytest.raises(SystemExit, match="has no completion of 7 of 7 pictures: 000000"):
        run(compare=[str(tmp_path)])
    run.config.image_size = 64
    with pytest.raises(SystemExit, match=r"\(64\) in --config must be that of the model"):
        run()
