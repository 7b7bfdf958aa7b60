"""Configs: what they are held to, and what may differ when a run goes on."""

import importlib
from pathlib import Path

import ml_collections
import pytest

from uctgan_jax import config as configs
from uctgan_jax.configs import ablation, default, folder, paper, prior
from uctgan_jax.prior.training import train_prior
from uctgan_jax.saved_models import read_model
from uctgan_jax.training import make_trainee

NAMES = sorted(path.stem for path in Path(paper.__file__).parent.glob("[a-z]*.py"))


@pytest.mark.parametrize("name", [n for n in NAMES if "prior" not in n and n != "ablation"])
def test_every_config_is_sound_and_has_every_field(name):
    config = importlib.import_module(f"uctgan_jax.configs.{name}").get_config()
    configs.check_config(config)
    expected = configs.config_dict(default.get_config(config.image_size))
    differences = configs.refused_differences(expected, configs.config_dict(config))
    assert not [path for path, values in differences.items() if None in values]
    make_trainee(config)
    config.num_train_steps = 3  # is all that it takes to shorten a run
    configs.check_config(config)
    make_trainee(config)


@pytest.mark.parametrize("name", [n for n in NAMES if "prior" in n])
def test_every_config_of_a_prior_is_sound_and_has_every_field(name):
    config = importlib.import_module(f"uctgan_jax.configs.{name}").get_config()
    configs.check_run_fields(config)
    assert set(config) == set(prior.get_config())


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("no_attention", "model.attention_resolution"),
        ("no_manifold", "loss.manifold_l1"),
        ("no_instance", "instance_path"),
        ("no_reconstruction", "loss.reconstruction"),
        ("no_kl", "loss.kl"),
    ],
)
def test_ablations_change_their_one_thing(name, path):
    before, after = (
        configs.config_dict(config.get_config(*arguments))
        for config, arguments in ((paper, ()), (ablation, (name,)))
    )
    differences = configs.refused_differences(before, after)
    assert set(differences) == {path} and not differences[path][1]


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match=r"ablation \('no_fun'\) must be"):
        ablation.get_config("no_fun")
    with pytest.raises(ValueError, match=r"image size \(100\) must be one of 32, 64, 128, 256"):
        folder.get_config("100")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_train_steps=0), r"num_train_steps \(0\) must be 1 or more"),
        (dict(batch_size=0), r"batch_size \(0\) must be 1 or more"),
        (dict(seed=-1), r"seed \(-1\) must be in \[0, 4294967296\)"),
        (dict(ema_decay=1.0), r"ema_decay \(1.0\) must be in \[0, 1\)"),
        (
            dict(data=dict(zoom=2.0), mask=dict(kind="paired:masks")),
            r"zoom \(2.0\) must be 1 with masks 'paired:masks'",
        ),
        (dict(data=dict(zoom=0.9)), r"data.zoom \(0.9\) must be in \[1, inf\)"),
        (dict(colour_jitter=1.5), r"colour_jitter \(1.5\) must be in \[0, 1\]"),
        (dict(reconstruction_steps=-1), r"reconstruction_steps \(-1\) must be 0 or more"),
        (dict(optimizer=dict(name="sgd")), r"optimizer.name \('sgd'\) must be one of adam, muon"),
        (dict(optimizer=dict(decay_share=1.5)), r"optimizer.decay_share \(1.5\) must be in"),
        (
            dict(optimizer=dict(generator_learning_rate=-1e-3)),
            r"optimizer.generator_learning_rate \(-0.001\) must be in \[0, inf\)",
        ),
        (dict(optimizer=dict(beta2=1.0)), r"optimizer.beta2 \(1.0\) must be in \[0, 1\)"),
        (dict(data=dict(num_threads=-1)), r"data.num_threads \(-1\) must be 0 or more"),
        (dict(data=dict(cache_gib=-1.0)), r"data.cache_gib \(-1.0\) must be in \[0, inf\)"),
        (dict(loss=dict(kl=-1.0)), r"loss.kl \(-1.0\) must be in \[0, inf\)"),
        (dict(loss=dict(kl=float("nan"))), r"loss.kl \(nan\) must be in"),
        (dict(loss=dict.fromkeys(default.get_config().loss, 0.0)), "there is nothing to train"),
        (
            dict(
                reconstruction_steps=2,
                loss=dict(reconstruction_hole=0.0, perceptual=0.0),
            ),
            r"reconstruction_steps \(2\) must be 0 when",
        ),
        (dict(mask=dict(kind="hexagon")), "'hexagon'"),
    ],
)
def test_senseless_values_are_refused_by_name(changes, message):
    config = default.get_config(32)
    config.update(changes)
    with pytest.raises(ValueError, match=message):
        configs.check_config(config)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (prior.get_config(), r"has no .*image_size.* and has .*num_examples.*configs/default.py$"),
        (
            ml_collections.ConfigDict(read_model("avatars32")[1]),
            r"has no optimizer.discriminator_learning_rate, optimizer.generator_learning_rate and"
            r" has .*optimizer.learning_rate",
        ),
    ],
)
def test_the_config_of_another_program_is_refused_by_its_fields(given, message):
    with pytest.raises(ValueError, match=message):
        configs.check_config(given)


def test_a_prior_is_not_trained_by_a_models_config(tmp_path):
    with pytest.raises(ValueError, match="has no .*num_examples.*configs/prior.py$"):
        train_prior(default.get_config(32), "avatars32", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_may_go_on_longer_elsewhere_but_not_as_another(tmp_path):
    config = default.get_config(32)
    (tmp_path / "config.json").write_text(config.to_json())
    config.num_train_steps, config.parallel, config.data.num_threads = 7, "pmap", 1
    configs.check_same_run(tmp_path, config, [3])
    config.loss.kl = 0.5
    configs.check_same_run(tmp_path, config, [])  # nothing is lost
    with pytest.raises(configs.ConfigMismatchError, match=r"loss.kl: 0.0003 there, 0.5 now"):
        configs.check_same_run(tmp_path, config, [3])
