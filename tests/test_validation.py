"""What training shows of held-out pictures."""

import cv2
import numpy as np
import pytest

from tests.conftest import model_params, records, run_config
from uctgan_jax import training
from uctgan_jax.preprocess import normalize
from uctgan_jax.train_state import TrainState
from uctgan_jax.validation import HeldOut


def test_a_visit_measures_reconstructions_and_the_prior(tmp_path, networks, batch):
    params = model_params(networks, seed=3)  # whose velocity is 0
    fields = dict.fromkeys(TrainState.__dataclass_fields__) | dict(step=40, ema_params=params)
    state = TrainState(**fields)
    with HeldOut(networks, batch, tmp_path / "samples") as held_out:
        figures = held_out.visit(state, draw=False)
        assert not list((tmp_path / "samples").iterdir())
        assert held_out.visit(state, draw=True) == figures
    assert cv2.imread(str(tmp_path / "samples" / "00000040.png")).std() > 10
    assert set(figures) == {"reconstruction_hole", "prior"}
    assert 0.1 < figures["reconstruction_hole"] < 1.5

    image = normalize(networks.to_patches(batch["image"]))
    mean, log_variance = (
        np.asarray(x, np.float64)
        for x in networks.projection.apply({"params": params["projection"]}, image)
    )
    time = np.linspace(0, 1, 1001)[:, None, None]
    variance = np.exp(log_variance)
    covariance = time * variance - (1 - time)
    spread = (1 - time) ** 2 + time**2 * variance
    assert figures["prior"] == pytest.approx((mean**2 + covariance**2 / spread).mean(), rel=0.1)


def test_a_sheet_that_cannot_be_written_ends_no_run(tmp_path, networks, batch, caplog):
    params = model_params(networks, seed=3)
    fields = dict.fromkeys(TrainState.__dataclass_fields__) | dict(step=40, ema_params=params)
    with HeldOut(networks, batch, tmp_path / "samples") as held_out:
        (tmp_path / "samples" / "00000040.png").mkdir()
        for _ in range(2):  # where an error of the first would come up
            assert held_out.visit(TrainState(**fields), draw=True)["prior"] > 0
    assert "00000040.png was not written" in caplog.text


def test_the_priors_own_steps_are_judged_by_the_prior(tmp_path, picture_folder, monkeypatch):
    visit = HeldOut.visit

    def best_at_step_4(self, state, *, draw):
        return visit(self, state, draw=draw) | {"prior": 1.0 + abs(int(state.step) - 4)}

    monkeypatch.setattr(HeldOut, "visit", best_at_step_4)
    config = run_config(picture_folder, num_train_steps=8, prior_steps=6, checkpoint_every_steps=1)
    training.train(config, tmp_path)
    logged = {r["step"]: r for r in records(tmp_path)}
    still = {logged[step]["held_out/reconstruction_hole"] for step in range(2, 9)}
    assert len(still) == 1 and logged[1]["held_out/reconstruction_hole"] not in still
    assert logged[5]["held_out/prior"] == 2.0
    kept = {int(folder.name) for folder in (tmp_path / "checkpoints").iterdir()}
    assert kept == {4, 7, 8}
