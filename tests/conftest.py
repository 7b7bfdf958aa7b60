"""What the tests share: eight CPU devices, a compilation cache, networks too small to be slow."""

import json
import os
import sys
from pathlib import Path
from unittest import mock

# Before JAX is imported anywhere. Tests that use one device take the first. Their programs are
# small and run a few times: LLVM would take longer to make them faster than that saves.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 "
    + os.environ.get("XLA_FLAGS", "")
)
os.environ["JAX_PLATFORMS"] = "cpu"

import cv2
import jax
import ml_collections
import numpy as np
import pytest

from uctgan_jax import Inpainter, compilation_cache, training
from uctgan_jax.configs import default
from uctgan_jax.losses import LossWeights
from uctgan_jax.nets import Networks, build_networks
from uctgan_jax.prior import Prior, build_prior, summarize
from uctgan_jax.weights import digest

compilation_cache.enable()


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs of one file are of no use to the next, and take gigabytes in the end."""
    yield
    jax.clear_caches()


TINY_MODEL = dict(
    patch_size=4,
    code_dim=4,
    projection_widths=(8,),
    encoder_widths=(8, 16),
    generator_widths=(8, 16),
    discriminator_widths=(8, 8),
    discriminator_patch_size=8,
    discriminator_head_width=0,
    generator_blocks=1,
    attention_resolution=4,
    attention_heads=2,
)
TINY_PRIOR = dict(condition_width=8, width=8, num_blocks=1)

LOSS_WEIGHTS = LossWeights(
    reconstruction=20.0,
    reconstruction_hole=10.0,
    reconstruction_square=5.0,
    perceptual=0.0,
    condition_l1=10.0,
    manifold_l1=0.5,
    kl=0.01,
    adversarial=1.0,
    gradient_penalty=0.5,
)


@pytest.fixture(scope="session")
def networks() -> Networks:
    """All parts of the real networks, at the smallest size."""
    return build_networks(image_size=32, **TINY_MODEL)


@pytest.fixture(scope="session")
def prior() -> Prior:
    """A learned prior of the smallest size."""
    return build_prior(TINY_PRIOR, code_dim=TINY_MODEL["code_dim"])


def model_params(networks, seed, prior=None):
    """All that a model file holds, untrained."""

    @jax.jit
    def init(key):
        params = networks.init_generator(key)
        if prior is not None:
            condition = summarize(networks.encode(params, *networks.example()))
            params["prior"] = prior.init(key, condition)
        return params | {"discriminator": networks.init_discriminator(key)}

    return init(jax.random.key(seed))


def moved(params):
    """Parameters after a step of some kind."""
    return jax.tree.map(lambda x: x + np.float32(0.01), params)


@pytest.fixture(scope="session")
def inpainter(networks, prior) -> Inpainter:
    """An untrained model with a learned prior, whose D has moved, so that it judges."""
    config = default.get_config(32)
    config.model = TINY_MODEL
    config.prior = TINY_PRIOR

    params = jax.device_get(model_params(networks, seed=3, prior=prior))
    params["discriminator"] = moved(params["discriminator"])
    params["prior"] = moved(params["prior"])
    return Inpainter(config, params, step=7, digest=digest(params))


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory):
    """A folder data set: 24 pictures to train on, 8 to validate and 8 to test on."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("validation", 8), ("test", 8)):
        (folder / split).mkdir()
        for i in range(count):
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / split / f"{i}.png"), cv2.resize(coarse, (40, 36)))
    return folder


def run_config(picture_folder, **changes) -> ml_collections.ConfigDict:
    """The config of a run that takes seconds, but for some changes."""
    config = default.get_config(32)
    config.batch_size = 8
    config.num_train_steps = 6
    config.loss.perceptual = 0.0  # its network would take longer than all else
    config.log_every_steps = 1
    config.checkpoint_every_steps = 3
    config.sample_every_steps = 6
    config.optimizer.decay_share = 0.0  # or runs of more steps would begin with other rates
    config.data.source = f"folder:{picture_folder}"
    config.data.num_threads = 2
    config.model = TINY_MODEL
    config.eval.num_examples = 5
    config.eval.num_samples = 3
    config.eval.batch_size = 4
    config.update(changes)
    return config


def config_file(config: ml_collections.ConfigDict, folder: Path) -> Path:
    """Writes a config as `--config` takes it."""
    path = folder / "config.py"
    path.write_text(
        "import json, ml_collections\n"
        f"CONFIG = {config.to_json()!r}\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict(json.loads(CONFIG))\n"
    )
    return path


def run_program(main, *arguments: str) -> int:
    """The exit status of a program that runs in this process, as `program.py` with these flags."""
    with mock.patch.object(sys, "argv", ["program.py", *arguments]):
        with pytest.raises(SystemExit) as end:
            main()
    return end.value.code or 0


def records(workdir):
    """What a run has logged."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def straight(tmp_path_factory, picture_folder):
    """Six steps in one go: the workdir and the final state."""
    workdir = tmp_path_factory.mktemp("straight") / "run"
    return workdir, training.train(run_config(picture_folder), workdir)


@pytest.fixture
def batch():
    """Eight random examples at 32 px, with holes of different sizes."""
    rng = np.random.default_rng(1)
    mask = np.zeros((8, 32, 32, 1), np.uint8)
    for i in range(8):
        mask[i, 8 : 12 + 2 * i, 4:20] = 1
    return {
        "image": rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8),
        "instance": rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8),
        "mask": mask,
        "index": np.arange(8, dtype=np.uint32),
    }


@pytest.fixture
def patches(networks, batch):
    """The same examples as a training step takes them, in patches."""
    folded = {name: networks.to_patches(batch[name]) for name in ("image", "instance", "mask")}
    return batch | folded


def assert_trees_equal(a, b, **tolerance) -> None:
    """Same structure, and every leaf equal, or close where a tolerance is given."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        name = jax.tree_util.keystr(path)
        if tolerance:
            np.testing.assert_allclose(x, y, err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(x, y, err_msg=name)


@pytest.fixture
def compilations():
    """Grows by one name with each program that is compiled."""
    seen = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)
