"""PIC, the baseline: its losses, what its paths see, its completions and its training."""

import functools
import shutil

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from baselines.pic import complete as complete_program
from baselines.pic import config as pic
from baselines.pic import losses, training
from baselines.pic import train as train_program
from baselines.pic.complete import write_completions
from baselines.pic.nets import PATHS, ShortLongAttention, build_networks
from baselines.pic.sampling import complete, reconstruct
from baselines.pic.train_step import Keys, generator_loss, kl_terms
from benchmarks import programs
from tests.conftest import assert_trees_equal, config_file, records, run_program
from uctgan_jax.configs import paper
from uctgan_jax.evaluation.compare import CompletionsFolder
from uctgan_jax.nets import sample_code
from uctgan_jax.nets.blocks import space_to_depth
from uctgan_jax.preprocess import normalize
from uctgan_jax.saved_models import read_model
from uctgan_jax.train_step import example_keys

pytestmark = pytest.mark.slow

TINY_MODEL = dict(
    patch_size=4,
    code_channels=2,
    encoder_widths=(8, 16),
    posterior_blocks=1,
    prior_blocks=1,
    generator_widths=(8, 16),
    attention_resolution=4,
    discriminator_widths=(8, 8),
    discriminator_patch_size=8,
)


def tiny_config(**changes) -> ml_collections.ConfigDict:
    config = pic.get_config()
    config.image_size = 32
    config.batch_size = 8
    config.model = TINY_MODEL
    config.optimizer.generator_learning_rate = 5e-3
    config.log_every_steps = 1
    config.checkpoint_every_steps = 8
    config.sample_every_steps = 16
    config.optimizer.decay_share = 0.0
    config.data.num_threads = 2
    config.eval.num_examples, config.eval.num_samples, config.eval.batch_size = 2, 2, 2
    config.update(changes)
    return config


@pytest.fixture(scope="module")
def trainee():
    return training.make_trainee(tiny_config())


def run(workdir, picture_folder, num_train_steps):
    config = tiny_config(num_train_steps=num_train_steps)
    config.data.source = f"folder:{picture_folder}"
    return training.train(config, workdir)


@pytest.fixture(scope="module")
def straight(tmp_path_factory, picture_folder):
    """Sixteen steps in one go: the workdir and the final state."""
    workdir = tmp_path_factory.mktemp("pic") / "run"
    return workdir, run(workdir, picture_folder, 16)


@pytest.fixture
def state(straight):
    return straight[1]


@pytest.fixture
def folded(batch):
    """The examples of `batch` as a step takes them."""
    return batch | {name: space_to_depth(batch[name], 4) for name in ("image", "mask")}


def test_has_the_size_of_uctgan():
    trainee = training.make_trainee(pic.get_config())
    networks = trainee.networks
    expected = jax.eval_shape(programs.train_program(paper.get_config())[0])

    def count(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    params = jax.eval_shape(networks.init_generator, jax.random.key(0))
    assert count(params) == pytest.approx(count(expected.generator_params), rel=0.1)
    discriminators = jax.eval_shape(networks.init_discriminator, jax.random.key(0))
    for path in PATHS:
        judge = count(discriminators[path])
        assert judge == pytest.approx(count(expected.discriminator_params), rel=0.1)


def test_budget_and_data_are_those_of_uctgan():
    config, expected = pic.get_config(), paper.get_config()
    others = {name for name in config if config[name] != expected[name]}
    assert others == {"model", "loss"}


def test_the_config_of_uctgan_is_refused_by_its_fields(tmp_path):
    with pytest.raises(ValueError, match="has no loss.appearance, .*baselines/pic/config.py$"):
        training.train(paper.get_config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_losses_by_hand():
    one, zero = jnp.ones((2, 1, 1, 3)), jnp.zeros(())
    kl = functools.partial(losses.kl_divergence, mean=one, log_variance=jnp.log(4.0) * one)
    # Of each of three numbers KL(N(1, 4) || N(0, 1)) = (4 + 1 - 1 - ln 4) / 2, and against N(0, 4)
    # (1 + 1/4 - 1 - 0) / 2.
    np.testing.assert_allclose(
        kl(prior_mean=zero, prior_log_variance=zero), 3 * (4 - np.log(4)) / 2, rtol=1e-6
    )
    wide = kl(prior_mean=zero, prior_log_variance=jnp.log(4.0))
    np.testing.assert_allclose(wide, 3 * 0.125, rtol=1e-6)
    real, fake = jnp.array([1.0, 3.0]), jnp.array([0.0, 2.0])
    discriminator = losses.least_squares_discriminator(real_scores=real, fake_scores=fake)
    np.testing.assert_allclose(discriminator, (4 / 2 + 4 / 2) / 2)
    np.testing.assert_allclose(losses.least_squares_generator(fake_scores=fake), 1.0)
    matching = losses.feature_matching(features=one, target_features=jnp.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(matching, 10 / 3, rtol=1e-6)


def test_the_prior_follows_the_posterior_whose_own_prior_narrows_with_the_hole():
    mean, log_variance = jnp.full((1, 2, 2, 1), 0.5), jnp.zeros((1, 2, 2, 1))
    mask = jnp.zeros((1, 4, 4, 1)).at[:, :2, :2].set(1.0)

    def term(posterior, prior, name):
        return kl_terms(posterior, prior, mask)[name]

    own = term((mean, log_variance), (mean, log_variance), "kl_reconstructive")
    # Four times KL(N(1/2, 1) || N(0, 1/4)): a quarter is hidden.
    np.testing.assert_allclose(own, 4 * 0.5 * (4 + 1 - 1 - np.log(4)), rtol=1e-6)
    gradients = jax.grad(term, argnums=(0, 1))(
        (mean, log_variance), (mean + 1, log_variance), "kl_generative"
    )
    for of_posterior, of_prior in zip(*gradients, strict=True):
        assert not of_posterior.any() and of_prior.any()


def test_terms_are_those_of_the_two_paths(trainee, state, folded):
    networks, judges = trainee.networks, state.discriminator_params
    keys = Keys(*example_keys(0, folded["index"], 2))
    target, mask = normalize(folded["image"]), jnp.asarray(folded["mask"], jnp.float32)

    @jax.jit
    def expect(params):
        features = networks.encode(params, target, mask)
        normals = (
            networks.infer_posterior(params, target, mask),
            networks.infer_prior(params, features),
        )
        outputs, judged = {}, {}
        for path, normal, noise_keys in zip(PATHS, normals, keys, strict=True):
            noise = jax.vmap(lambda key: jax.random.normal(key, networks.code_shape))(noise_keys)
            code = sample_code(noise, *normal)
            outputs[path] = networks.generate(params, code, features, mask)
            judged[path] = networks.discriminate(judges[path], outputs[path], mask)
        real = networks.discriminate(judges["reconstructive"], target, mask)
        return outputs, judged, real

    total, (terms, outputs) = jax.jit(functools.partial(generator_loss, trainee=trainee))(
        state.generator_params,
        discriminator_params=judges,
        target=target,
        mask=mask,
        keys=keys,
    )
    expected, judged, (_, real) = jax.device_get(expect(state.generator_params))
    for path in PATHS:
        np.testing.assert_allclose(outputs[path], expected[path], atol=1e-4)
    hole, target = np.repeat(folded["mask"], 3, axis=-1), np.asarray(target)
    error = np.abs(expected["reconstructive"] - target)
    visible = np.abs(expected["generative"] - target) * (1 - hole)
    per_picture = visible.sum(axis=(1, 2, 3)) / (1 - hole).sum(axis=(1, 2, 3))
    assert real.shape == (8, 2, 2, 8)
    values = {
        "appearance_reconstructive": error.mean(),
        "appearance_generative": per_picture.mean(),
        "adversarial_reconstructive": np.mean((judged["reconstructive"][1] - real) ** 2),
        "adversarial_generative": np.mean((judged["generative"][0] - 1) ** 2),
    }
    for name, value in values.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-3, err_msg=name)
    weights = {"kl": 20 / 8192, "appearance": 20, "adversarial": 1}
    expected = sum(weights[name.split("_")[0]] * float(term) for name, term in terms.items())
    assert len(terms) == 6
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_each_path_sees_its_own_part(trainee, state, folded):
    networks, params = trainee.networks, state.generator_params
    target, mask = np.asarray(normalize(folded["image"])), folded["mask"].astype(np.float32)
    hole = np.repeat(folded["mask"], 3, axis=-1) == 1

    @jax.jit
    def see(image):
        features = networks.encode(params, image, mask)
        return networks.infer_posterior(params, image, mask), features

    posterior, features = see(target)
    assert_trees_equal(see(np.where(hole, target, -target))[0], posterior)
    changed = see(np.where(hole, -target, target))
    assert_trees_equal(changed[1], features)
    assert not np.array_equal(changed[0][0], posterior[0])


def test_attention_gathers_both_features_by_the_decoders_own_weights():
    rng = np.random.default_rng(0)
    decoded, encoded = (rng.normal(size=(1, 2, 2, c)).astype(np.float32) for c in (4, 3))
    known = np.array([[[True, False], [False, True]]])
    layer = ShortLongAttention()
    params = layer.init(jax.random.key(0), decoded, encoded, known)["params"]
    first = layer.apply({"params": params}, decoded, encoded, known)
    expected = np.concatenate([decoded, encoded * known[..., None]], axis=-1)
    np.testing.assert_array_equal(first, expected)

    params = params | {"gamma": jnp.array(0.5), "delta": jnp.array(2.0)}
    result = layer.apply({"params": params}, decoded, encoded, known)
    d, e = decoded.reshape(4, 4), encoded.reshape(4, 3)
    query = d @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    weights = np.exp(query @ query.T)
    weights /= weights.sum(axis=1, keepdims=True)
    long = np.where(known.reshape(4, 1), e, 2 * weights @ e)
    expected = np.concatenate([d + 0.5 * weights @ d, long], axis=-1)
    np.testing.assert_allclose(result.reshape(4, 7), expected, rtol=1e-4, atol=1e-5)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"attention_resolution \(3\) must be 0 or one of"):
        build_networks(image_size=32, **TINY_MODEL | {"attention_resolution": 3})
    with pytest.raises(ValueError, match="must have the same number of levels"):
        build_networks(image_size=32, **TINY_MODEL | {"encoder_widths": (8,)})


def test_completions_keep_known_pixels_and_differ(trainee, state, batch):
    networks, params = trainee.networks, state.generator_params
    images, masks = batch["image"], batch["mask"]
    keys = jax.random.split(jax.random.key(1), len(images))

    @jax.jit
    def draw(images):
        own = reconstruct(networks, params, images, masks)
        return complete(networks, params, images, masks, keys, 3), own

    pictures, own = jax.device_get(draw(images))
    assert pictures.shape == (8, 3, 32, 32, 3) and pictures.dtype == np.uint8
    known = np.broadcast_to(masks[:, None] == 0, pictures.shape)
    expected = np.broadcast_to(images[:, None], pictures.shape)
    np.testing.assert_array_equal(pictures[known], expected[known])
    for row in pictures:
        assert (row[0] != row[1]).any() and (row[1] != row[2]).any()
    painted = np.where(masks == 1, np.uint8(7), images)
    again, _ = jax.device_get(draw(painted))
    np.testing.assert_array_equal(again[~known], pictures[~known])
    np.testing.assert_array_equal(own[known[:, 0]], images[known[:, 0]])


def test_a_resumed_run_is_the_straight_one_bit_for_bit(straight, picture_folder, tmp_path):
    workdir = shutil.copytree(straight[0], tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "16")
    assert [folder.name for folder in (workdir / "checkpoints").iterdir()] == ["8"]
    assert_trees_equal(run(workdir, picture_folder, 16), straight[1])


def test_what_is_trained_for_falls(straight):
    first, *_, last = records(straight[0])
    assert first["step"] == 1 and last["step"] == 16 and not last["nonfinite"]
    assert last["loss/generator"] < 0.75 * first["loss/generator"]
    for path in PATHS:
        assert last[f"loss/appearance_{path}"] < 0.8 * first[f"loss/appearance_{path}"]
        assert last[f"loss/discriminator_{path}"] < first[f"loss/discriminator_{path}"]
    assert last["held_out/prior"] > 0 and 0 < last["held_out/reconstruction_hole"] < 2


def test_the_programs_train_and_complete(picture_folder, tmp_path):
    options = [
        f"--config={config_file(tiny_config(), tmp_path)}",
        f"--config.data.source=folder:{picture_folder}",
        "--config.num_train_steps=2",
        f"--workdir={tmp_path / 'run'}",
    ]
    assert run_program(train_program.main, *options) == 0
    assert len(records(tmp_path / "run")) == 2
    options = [f"--workdir={tmp_path / 'run'}", f"--output={tmp_path / 'out'}", "--num_samples=1"]
    assert run_program(complete_program.main, *options) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
    assert run_program(train_program.main, "--workdir=run", "--config=missing.py") == 2


def test_writes_what_evaluate_compares(straight, tmp_path):
    params, saved, step, _ = read_model(straight[0])
    assert step == 16
    write_completions(ml_collections.ConfigDict(saved), params, tmp_path, "test")
    folder = CompletionsFolder(tmp_path, num_examples=2, num_samples=2, image_size=32)
    pictures = folder.complete(None, None, np.arange(2))
    assert (pictures[:, 0] != pictures[:, 1]).any(axis=(1, 2, 3)).all()
    above = pictures[:, :, :8]  # the hole is in the centre
    np.testing.assert_array_equal(above[:, 0], above[:, 1])
