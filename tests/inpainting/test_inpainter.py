"""The inpainter: known pixels, seeds, sizes, instances, and what it refuses."""

import json

import cv2
import jax
import numpy as np
import pytest

from tests.conftest import TINY_MODEL, model_params, moved
from uctgan_jax import Inpainter
from uctgan_jax.checkpoints import Checkpoints
from uctgan_jax.images import read_coverage
from uctgan_jax.inpainting import inpainter as inpainting
from uctgan_jax.inpainting.interpolation import interpolate
from uctgan_jax.inpainting.sampler import sample_normal
from uctgan_jax.inpainting.selection import SELECTIONS, choose, nearest_distances, pair_distances
from uctgan_jax.saved_models import saved_steps
from uctgan_jax.weights import OtherNetworksError


@pytest.fixture(scope="module")
def on_one_device(inpainter):
    return inpainter.on_device(jax.devices()[0])


@pytest.fixture
def picture():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[10:20, 8:24] = 1
    return image, mask


def test_completions_differ_and_known_pixels_are_kept(inpainter, picture):
    image, mask = picture
    out = inpainter.complete(image, mask, num_samples=3, seed=1).images
    assert out.shape == (3, 32, 32, 3) and out.dtype == np.uint8
    for completion in out:
        np.testing.assert_array_equal(completion[mask == 0], image[mask == 0])
        assert not np.array_equal(completion[mask == 1], image[mask == 1])
    assert not np.array_equal(out[0], out[1])


def test_same_seed_same_completions_and_fewer_are_the_first_of_more(inpainter, picture):
    three = inpainter.complete(*picture, num_samples=3, seed=1).images
    again = inpainter.complete(*picture, num_samples=3, seed=1).images
    np.testing.assert_array_equal(again, three)
    fewer = inpainter.complete(*picture, num_samples=2, seed=1).images
    assert np.abs(fewer.astype(int) - three[:2]).max() <= 1  # another program may round otherwise
    assert not np.array_equal(inpainter.complete(*picture, num_samples=3, seed=2).images, three)


def test_hidden_pixels_do_not_matter(inpainter, picture):
    image, mask = picture
    changed = np.where(mask[..., None] > 0, np.uint8(255), image)
    np.testing.assert_array_equal(
        inpainter.complete(changed, mask, 2).images, inpainter.complete(image, mask, 2).images
    )


def test_a_completion_does_not_depend_on_its_batch(inpainter, batch):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(np.arange(8))
    together = inpainter.sample(batch["image"], batch["mask"], keys, 2)
    alone = inpainter.sample(batch["image"][5:6], batch["mask"][5:6], keys[5:6], 2)
    with pytest.raises(ValueError, match=rf"keys \(1\) must be one for each .* \({len(keys)}\)"):
        inpainter.sample(batch["image"], batch["mask"], keys[5:6], 2)
    assert np.abs(together[5].astype(int) - alone[0]).max() <= 1
    assert np.abs(together[4].astype(int) - alone[0]).max() > 10


def assert_same_pictures(a, b):
    """Up to one level: another program may round otherwise."""
    assert a.shape == b.shape
    assert np.abs(a.astype(int) - b).max() <= 1


@pytest.mark.parametrize("size", [1, 5, 8])
def test_eight_devices_give_the_completions_of_one(inpainter, on_one_device, batch, size):
    assert len(inpainter.devices) == 8
    images, masks = batch["image"][:size], batch["mask"][:size]
    keys = jax.random.split(jax.random.key(4), 8)[:size]
    completions = inpainter.sample(images, masks, keys, 2)
    assert_same_pictures(completions, on_one_device.sample(images, masks, keys, 2))
    assert_same_pictures(
        inpainter.reconstruct(images, masks), on_one_device.reconstruct(images, masks)
    )


def test_the_rows_of_a_batch_are_split_over_the_devices(inpainter):
    seen = []
    images, masks = np.zeros((13, 32, 32, 3), np.uint8), np.zeros((13, 32, 32, 1), np.uint8)
    inpainter._spread(lambda params, *arrays: seen.append(arrays[2]) or arrays[2],
                      images, masks, np.arange(13))  # fmt: skip
    (rows,) = seen
    assert [shard.data.tolist() for shard in rows.addressable_shards] == [
        *([2 * i, 2 * i + 1] for i in range(6)),
        [12, 12],
        [12, 12],
    ]


def test_codes_are_standard_normal_and_each_their_own():
    codes = np.asarray(sample_normal(jax.random.split(jax.random.key(0), 50), 20, 8))
    assert codes.shape == (50, 20, 8)
    assert abs(codes.mean()) < 0.05 and abs(codes.std() - 1) < 0.05
    assert len(np.unique(codes.reshape(-1, 8), axis=0)) == 50 * 20


@pytest.mark.parametrize("shape", [(32, 32), (50, 90), (97, 41), (16, 16)])
def test_any_size(inpainter, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    mask = np.zeros(shape, bool)
    mask[3:9, 2:12] = True
    out = inpainter.complete(image, mask[..., None], num_samples=2).images
    assert out.shape == (2, *shape, 3)
    np.testing.assert_array_equal(out[:, ~mask], np.stack([image[~mask]] * 2))
    assert not np.array_equal(out[0, mask], out[1, mask])


def test_a_hole_wider_than_any_square_is_filled(inpainter):
    image = np.full((20, 90, 3), 60, np.uint8)
    mask = np.zeros((20, 90), np.uint8)
    mask[5:15, 5:85] = 1
    out = inpainter.complete(image, mask, num_samples=1).images[0]
    np.testing.assert_array_equal(out[mask == 0], image[mask == 0])
    # The far ends and the middle alike are no longer what they were.
    for columns in (slice(5, 12), slice(40, 50), slice(78, 85)):
        assert (out[5:15, columns] != 60).mean() > 0.5


def test_instances_give_one_completion_each(inpainter, picture):
    rng = np.random.default_rng(1)
    first, second = (rng.integers(0, 256, (h, 40, 3), dtype=np.uint8) for h in (40, 64))
    out = inpainter.complete(*picture, instances=[first, second, first]).images
    assert len(out) == 3
    np.testing.assert_array_equal(out[0], out[2])
    assert not np.array_equal(out[0], out[1])


def test_codes_give_their_completions_again(inpainter, picture):
    drawn = inpainter.complete(*picture, num_samples=3, seed=1)
    assert drawn.codes.shape == (3, TINY_MODEL["code_dim"]) and drawn.codes.dtype == np.float32
    again = inpainter.complete(*picture, codes=drawn.codes)
    np.testing.assert_array_equal(again.images, drawn.images)
    followed = inpainter.complete(*picture, instances=[picture[0]])
    np.testing.assert_array_equal(followed.codes, inpainter.project(picture[0][None], picture[1]))


def test_pictures_of_any_size_are_projected_by_their_central_square(inpainter, picture):
    square = picture[0]
    wide = np.pad(np.repeat(np.repeat(square, 2, axis=0), 2, axis=1), ((0, 0), (20, 20), (0, 0)))
    codes = inpainter.project([square, wide], picture[1])
    assert codes.shape == (2, TINY_MODEL["code_dim"])
    np.testing.assert_allclose(codes[1], codes[0], atol=1e-5)


def test_a_walk_from_one_completion_to_another(inpainter, picture):
    drawn = inpainter.complete(*picture, num_samples=2, seed=1)
    walk = inpainter.complete(*picture, codes=interpolate(*drawn.codes, steps=5)).images
    ends = walk[[0, -1]].astype(int)
    assert np.abs(ends - drawn.images).max() <= 1
    # Each step is nearer to its end of the walk.
    from_start, to_end = (np.abs(walk - end).mean(axis=(1, 2, 3)) for end in ends)
    assert (np.diff(from_start) > 0).all() and (np.diff(to_end) < 0).all()


def test_temperature_scales_the_codes(inpainter, picture):
    warm = inpainter.complete(*picture, num_samples=3, seed=1)
    cool = inpainter.complete(*picture, num_samples=3, seed=1, temperature=0.5)
    np.testing.assert_allclose(cool.codes, warm.codes / 2)
    still = inpainter.complete(*picture, num_samples=2, temperature=0)
    np.testing.assert_array_equal(still.images[0], still.images[1])


@pytest.mark.parametrize(
    ("options", "zoom", "share"),
    [
        (dict(kind="center", hole_share=(0.2, 0.25)), 1, 0.2),
        (dict(kind="center", hole_share=(0.5, 0.5)), 1, 1 / 4),
        # Parts of pictures were in training, too: the middle of the scales.
        (dict(kind="center", hole_share=(0.2, 0.25)), 2, 0.4),
        (dict(kind="center", hole_share=(0.2, 0.25)), 4, 1 / 2),
        # A hole of a sixteenth was in training, though `hole_share` does not say so.
        (dict(kind="window", region=(0.0, 0.0, 0.25, 0.25)), 1, 1 / 16),
        (dict(kind="paired:/masks"), 1, 1 / 16),
    ],
)
def test_a_hole_as_in_training_is_seen_as_in_training(
    inpainter, picture, monkeypatch, options, zoom, share
):
    config = inpainter.config.copy_and_resolve_references()
    config.mask.update(options)
    config.data.zoom = zoom
    model = Inpainter(config, jax.device_get(inpainter.params), 7, "", devices=inpainter.devices)

    def place(hole, size, hole_share):
        assert hole_share == share
        raise InterruptedError

    monkeypatch.setattr(inpainting, "place_windows", place)
    with pytest.raises(InterruptedError):
        model.complete(*picture)


def test_scores_are_those_of_the_completions_in_their_order(inpainter, picture):
    image, mask = picture
    out = inpainter.complete(image, mask, num_samples=3, seed=1)
    masks = np.repeat(mask[None, ..., None], 3, axis=0)
    np.testing.assert_allclose(out.realism, inpainter.realism(out.images, masks), rtol=1e-5)
    distances = pair_distances(out.images, mask[..., None])
    np.testing.assert_allclose(out.difference, nearest_distances(distances), rtol=1e-5)
    assert out.difference.min() > 0
    single = inpainter.complete(image, mask, num_samples=1)
    assert np.isfinite(single.realism).all() and np.isnan(single.difference).all()


@pytest.mark.parametrize("select", SELECTIONS)
def test_select_keeps_some_of_the_draws(inpainter, picture, select):
    image, mask = picture
    drawn = inpainter.complete(image, mask, num_samples=12, seed=1)
    out = inpainter.complete(image, mask, num_samples=3, seed=1, select=select)
    expected = choose(
        select,
        3,
        realism=drawn.realism,
        distances=pair_distances(drawn.images, mask[..., None]),
    )
    np.testing.assert_array_equal(out.codes, drawn.codes[expected])
    np.testing.assert_array_equal(out.images, drawn.images[expected])
    np.testing.assert_array_equal(out.realism, drawn.realism[expected])
    again = inpainter.complete(image, mask, num_samples=3, seed=1, select=select)
    np.testing.assert_array_equal(again.images, out.images)


def test_selecting_does_what_it_is_for(inpainter, picture):
    plain, diverse, realistic = (
        inpainter.complete(*picture, num_samples=3, seed=2, select=select)
        for select in (None, "diverse", "realistic")
    )
    assert diverse.difference.min() > plain.difference.min()
    assert realistic.realism.mean() > plain.realism.mean()
    assert (np.diff(realistic.realism) <= 0).all()
    all_kept = inpainter.complete(*picture, num_samples=3, seed=2, select="diverse", oversample=1)
    assert {*all_kept.codes[:, 0]} == {*plain.codes[:, 0]}


def test_reconstruct_uses_the_pictures_own_code(inpainter, batch):
    out = inpainter.reconstruct(batch["image"], batch["mask"])
    # There and back through the prior, which is the identity where it is untrained.
    codes = inpainter.project(batch["image"], batch["mask"][0])
    np.testing.assert_array_equal(
        out, inpainter.complete_with(batch["image"], batch["mask"], codes[:, None])[:, 0]
    )
    known = batch["mask"][..., 0] == 0
    np.testing.assert_array_equal(out[known], batch["image"][known])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(mask=np.zeros((32, 32), np.uint8)), "the mask is empty"),
        (dict(mask=np.ones((32, 32), np.uint8)), "the mask is full"),
        (dict(mask=np.ones((32, 31), np.uint8)), r"mask \(32, 31\) must have .* \(32, 32\)"),
        (
            dict(mask=np.ones((32, 32, 3), np.uint8)),
            r"mask \(uint8 \(32, 32, 3\)\) must be .*\[H, W\]",
        ),
        (dict(mask=np.full((32, 32), np.nan)), r"mask \(values nan to nan\) must lie in 0 to 1"),
        (dict(mask=np.full((32, 32), 255.0)), r"mask \(values 255.0 to 255.0\) must lie in 0 to 1"),
        (dict(mask=np.full((32, 32), -1)), r"mask \(values -1 to -1\) must lie in 0 to 65535"),
        (dict(mask=np.full((32, 32), "hole")), r"mask \(<U4 \(32, 32\)\) must be bool, integers"),
        (dict(mask=None), r"mask \(object \(\)\) must be"),
        (dict(grow=-1), r"grow \(-1\) must be at least 0, and a whole number"),
        (dict(grow=1.5), r"grow \(1.5\) must be at least 0, and a whole number"),
        (dict(grow=22), "the mask is full once it is grown by 22 pixels"),
        (dict(image=None), r"image \(object \(\)\) must be uint8"),
        (dict(image=np.zeros((32, 32), np.uint8)), r"image \(uint8 \(32, 32\)\) must be uint8"),
        (dict(image=np.zeros((32, 32, 3))), r"image \(float64"),
        (dict(num_samples=0), r"num_samples \(0\) must be at least 1"),
        (dict(num_samples=2.5), r"num_samples \(2.5\) must be at least 1, and a whole number"),
        (dict(num_samples=True), r"num_samples \(True\) must be"),
        (dict(seed=None), r"seed \(None\) must be at least 0, and a whole number"),
        (dict(temperature=None), r"temperature \(None\) must be at least 0, a number"),
        (dict(oversample=None, select="both"), r"oversample \(None\) must be at least 1"),
        (dict(instances=3), r"images \(3\) must be a list of pictures"),
        (dict(codes="drawn"), r"codes \('drawn'\) must be float32 \[K, 4\]"),
        (dict(seed=-1), r"seed \(-1\) must be at least 0"),
        (dict(temperature=-0.5), r"temperature \(-0.5\) must be at least 0"),
        (dict(temperature=np.nan), r"temperature \(nan\) must be at least 0"),
        (dict(instances=[]), "must hold one picture or more"),
        (dict(instances=[np.zeros((8, 8), np.uint8)]), r"image \(uint8 \(8, 8\)\) must be uint8"),
        (dict(instances=[np.zeros((0, 8, 3), np.uint8)]), r"image \(uint8 \(0, 8, 3\)\) must"),
        (dict(codes=np.zeros((2, 3))), r"codes \(2, 3\) must be \[K, 4\]"),
        (dict(codes=np.zeros((0, 4))), r"codes \(0, 4\) must be .* K of 1 or more"),
        (dict(codes=np.full((1, 4), np.nan)), "codes must be finite"),
        (dict(codes=np.zeros((1, 4)), instances=[]), "give one of them"),
        (dict(codes=np.zeros((1, 4)), select="both"), "give one of them"),
        (dict(select="best"), r"select \('best'\) must be None or one of diverse, realistic"),
        (dict(select="both", oversample=0), r"oversample \(0\) must be at least 1"),
        (dict(select="both", num_samples=-1), r"num_samples \(-1\) must be at least 1"),
    ],
)
def test_bad_input_is_refused(inpainter, picture, change, message):
    arguments = dict(zip(("image", "mask"), picture, strict=True)) | change
    with pytest.raises(ValueError, match=message):
        inpainter.complete(**arguments)


def test_a_pixel_that_the_mask_covers_in_part_is_filled_and_a_faint_one_is_kept(inpainter, picture):
    image, mask = picture
    soft = mask * np.uint8(255)
    soft[9, 8:24], soft[8, 8:24] = 20, 4
    out = inpainter.complete(image, soft, num_samples=2).images
    covering = np.maximum(mask, soft > 4)
    np.testing.assert_array_equal(out[:, covering == 0], np.stack([image[covering == 0]] * 2))
    assert (out[:, 9, 8:24] != image[9, 8:24]).any(axis=-1).mean() > 0.9


def test_a_mask_means_the_same_in_any_type(inpainter, picture):
    image, mask = picture
    soft = cv2.GaussianBlur(mask * np.float32(1), (0, 0), 1.0)
    levels = np.rint(255 * soft).astype(np.uint8)
    expected = inpainter.complete(image, levels, num_samples=2).images
    assert not np.array_equal(inpainter.complete(image, mask, num_samples=2).images, expected)
    file = cv2.imencode(".png", levels)[1].tobytes()
    for same in (soft, levels.astype(np.int64), levels[..., None], read_coverage(file)):
        np.testing.assert_array_equal(
            inpainter.complete(image, same, num_samples=2).images, expected
        )
    hard = inpainter.complete(image, mask, num_samples=2).images
    for same in (mask > 0, mask * 255, mask * 1.0):
        np.testing.assert_array_equal(inpainter.complete(image, same, num_samples=2).images, hard)


def test_grow_completes_as_a_mask_that_is_larger(inpainter, picture):
    image, mask = picture
    larger = cv2.dilate(mask, np.ones((5, 5), np.uint8))
    np.testing.assert_array_equal(
        inpainter.complete(image, mask, num_samples=2, grow=2).images,
        inpainter.complete(image, larger, num_samples=2).images,
    )


@pytest.mark.parametrize("too_tight", [1, 2])
def test_an_object_that_the_mask_does_not_cover_does_not_tint(inpainter, too_tight):
    """A magenta object on a plain wall: the completion is that of the wall alone."""
    wall = np.full((96, 96, 3), (150, 170, 190), np.uint8)
    mask = np.zeros((96, 96), np.uint8)
    mask[30:66, 34:70] = 1
    thing = cv2.dilate(mask, np.ones((2 * too_tight + 1,) * 2, np.uint8)) > 0
    seen = np.where(thing[..., None], np.uint8([255, 0, 255]), wall)
    with_thing, without = (
        inpainter.complete(image, mask, num_samples=2).images for image in (seen, wall)
    )
    np.testing.assert_array_equal(with_thing[:, mask == 1], without[:, mask == 1])
    np.testing.assert_array_equal(with_thing[:, mask == 0], np.stack([seen[mask == 0]] * 2))


def test_load_one_of_several_checkpoints(inpainter, tmp_path):
    params = jax.device_get(inpainter.params)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        for step, model in ((3, params), (6, moved(params))):
            state = {"step": np.int32(step)}
            checkpoints.save(step, model, state, inpainter.config.to_dict(), error=0.5)
    assert saved_steps(tmp_path) == [3, 6]
    newest, first = Inpainter.load(tmp_path), Inpainter.load(tmp_path / "checkpoints", step=3)
    assert (newest.step, first.step) == (6, 3)
    assert newest.digest != first.digest
    with pytest.raises(FileNotFoundError, match=r"step 4 in .* it has steps \[3, 6\]"):
        Inpainter.load(tmp_path, step=4)


def test_load_without_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere is neither a run's workdir, nor"):
        Inpainter.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        Inpainter.load(tmp_path)


def test_saved_weights_complete_as_the_model_does(inpainter, batch, tmp_path):
    inpainter.save(tmp_path)
    loaded = Inpainter.load(tmp_path)
    assert loaded.step == 7 and saved_steps(tmp_path) == [7]
    assert loaded.config.to_json() == inpainter.config.to_json()
    codes = inpainter.project(batch["image"], batch["mask"][0])[:, None]
    ours, theirs = (
        model.complete_with(batch["image"], batch["mask"], codes) for model in (inpainter, loaded)
    )
    assert np.abs(ours.astype(int) - theirs).max() <= 2  # of 255: weights are kept as float16
    with pytest.raises(FileNotFoundError, match="holds step 7 alone, not 3"):
        Inpainter.load(tmp_path, step=3)


def test_weights_of_other_networks_are_told_as_such(inpainter):
    params = dict(jax.device_get(inpainter.params))
    bias = params["prior"]["code_in"]["bias"]
    del params["prior"]
    with pytest.raises(
        OtherNetworksError,
        match=rf"of its arrays differ, as prior.code_in.bias, which is missing there and"
        rf" \({len(bias)},\) here",
    ):
        Inpainter(inpainter.config, params, 7, "")


def test_a_model_with_a_field_of_another_version_is_told_as_such(inpainter, tmp_path):
    inpainter.save(tmp_path)
    model = json.loads((tmp_path / "model.json").read_text())
    model["config"]["model"]["style_width"] = 3
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(OtherNetworksError, match="by another version of this code: .*style_width"):
        Inpainter.load(tmp_path)


def test_realism_is_the_discriminators_logit(inpainter, networks, batch):
    scores = inpainter.realism(batch["image"][:3], batch["mask"][:3])
    assert scores.shape == (3,) and scores.dtype == np.float32
    logits = networks.discriminate(
        inpainter.params["discriminator"],
        networks.to_patches(batch["image"][:3] / np.float32(127.5) - 1),
        networks.to_patches(batch["mask"][:3].astype(np.float32)),
    )
    np.testing.assert_allclose(scores, logits[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": np.zeros((2, 32, 32, 3))},
            r"images \(float64 \(2, 32, 32, 3\)\) must be uint8",
        ),
        ({"images": np.zeros((2, 64, 64, 3), np.uint8)}, r"must be uint8 \[B, 32, 32, 3\]"),
        (
            {
                "images": np.zeros((0, 32, 32, 3), np.uint8),
                "codes": np.zeros((0, 3, 4), np.float32),
            },
            r"images \(uint8 \(0, 32, 32, 3\)\) must be",
        ),
        ({"masks": np.zeros((2, 32, 32), np.uint8)}, r"masks .* must be uint8 \[2, 32, 32, 1\]"),
        ({"masks": np.full((2, 32, 32, 1), 255, np.uint8)}, r"masks \(a value of 255\) must be 1"),
        ({"codes": np.zeros((2, 4), np.float32)}, r"codes \(2, 4\) must be \[2, K, 4\]"),
        ({"codes": np.zeros((1, 3, 4), np.float32)}, r"codes \(1, 3, 4\) must be \[2, K, 4\]"),
    ],
)
def test_batches_of_another_kind_are_refused(inpainter, change, message):
    batch = {
        "images": np.zeros((2, 32, 32, 3), np.uint8),
        "masks": np.zeros((2, 32, 32, 1), np.uint8),
        "codes": np.zeros((2, 3, inpainter.code_dim), np.float32),
    }
    with pytest.raises(ValueError, match=message):
        inpainter.complete_with(**{**batch, **change})


def test_a_model_without_a_trained_discriminator_cannot_judge(
    inpainter, networks, prior, batch, picture
):
    assert inpainter.judges_realism
    alone = {name: p for name, p in inpainter.params.items() if name != "discriminator"}
    assert not Inpainter(inpainter.config, alone, 7, "").judges_realism
    untrained = Inpainter(inpainter.config, model_params(networks, seed=3, prior=prior), 7, "")
    with pytest.raises(ValueError, match=r"cannot judge realism: .* \(step 7\) before that began"):
        untrained.realism(batch["image"], batch["mask"])
    for select in ("realistic", "both"):
        with pytest.raises(ValueError, match=f"select \\('{select}'\\) needs a model with"):
            untrained.complete(*picture, select=select)
    diverse = untrained.complete(*picture, num_samples=2, select="diverse")
    assert np.isnan(diverse.realism).all() and np.isfinite(diverse.difference).all()
