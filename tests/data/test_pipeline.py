import itertools

import numpy as np
import pytest

from uctgan_jax.data.masks import MaskOptions, draw_mask
from uctgan_jax.data.pipeline import eval_batches, train_batches
from uctgan_jax.nets.blocks import space_to_depth


class Numbers:
    """Picture i is 16 x 16, i everywhere but for a bright left edge."""

    name = "numbers"

    def __init__(self, n=11):
        self.n = n

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        picture = np.full((16, 16, 3), i, np.uint8)
        picture[:, :2] = 200
        return picture


OPTIONS = dict(image_size=8, masks=MaskOptions("free_form", hole_share=(0.1, 0.4)), seed=3)
TRAIN = OPTIONS | dict(batch_size=6, flip=True)


def take(iterator, n):
    return list(itertools.islice(iterator, n))


def assert_same(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def number(picture):
    return int(picture[0, 4, 0])


@pytest.fixture(scope="module")
def straight():
    return take(train_batches(Numbers(), **TRAIN), 8)


def test_form(straight):
    for step, batch in enumerate(straight):
        assert batch["image"].shape == batch["instance"].shape == (6, 8, 8, 3)
        assert batch["mask"].shape == (6, 8, 8, 1)
        assert {batch[key].dtype for key in ("image", "instance", "mask")} == {np.dtype(np.uint8)}
        assert batch["index"].dtype == np.int64
        assert batch["index"].tolist() == list(range(step * 6, step * 6 + 6))
        assert set(np.unique(batch["mask"])) == {0, 1}
        shares = batch["mask"].mean((1, 2, 3))
        assert (shares >= 0.09).all() and (shares <= 0.41).all()


@pytest.mark.parametrize("patch_size", [2, 4])
def test_patches_are_those_of_the_networks(straight, patch_size):
    folded = take(train_batches(Numbers(), **TRAIN, patch_size=patch_size), 8)
    for batch, pictures in zip(folded, straight, strict=True):
        for name in ("image", "instance", "mask"):
            expected = space_to_depth(pictures[name], patch_size)
            np.testing.assert_array_equal(batch[name], expected)
        np.testing.assert_array_equal(batch["index"], pictures["index"])


def test_every_epoch_has_every_picture_once_in_another_order(straight):
    order = [number(image) for batch in straight for image in batch["image"]]
    assert sorted(order[:11]) == sorted(order[11:22]) == list(range(11))
    assert order[:11] != order[11:22] and order[:11] != list(range(11))


def test_the_instance_is_another_picture(straight):
    pairs = [(number(a), number(b)) for s in straight for a, b in zip(s["image"], s["instance"],
                                                                     strict=True)]  # fmt: skip
    assert all(a != b for a, b in pairs)
    assert len({(b - a) % 11 for a, b in pairs}) > 6


def test_every_other_picture_is_equally_likely_to_be_the_instance():
    still = TRAIN | dict(batch_size=50, flip=False, masks=MaskOptions("center"))
    counts = np.zeros((5, 5), int)
    for batch in take(train_batches(Numbers(5), **still), 40):  # 400 epochs
        for pair in zip(batch["image"], batch["instance"], strict=True):
            counts[tuple(map(number, pair))] += 1
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(5, dtype=bool)]
    assert others.sum() == 2000 and others.min() > 60 and others.max() < 140


def test_a_picture_is_read_once_for_a_batch():
    reads = []

    class Counted(Numbers):
        def __getitem__(self, i):
            reads.append(i)
            return super().__getitem__(i % 256)

    batches = train_batches(Counted(1000), **(TRAIN | {"batch_size": 64}), num_threads=0)
    take(batches, 3)
    assert len(reads) == 3 * 64


@pytest.mark.parametrize(("kept", "reads_later"), [(0, 22), (5, 12), (11, 0)])
def test_pictures_in_the_cache_are_read_once(kept, reads_later):
    reads = []

    class Counted(Numbers):
        def __getitem__(self, i):
            reads.append(i)
            return super().__getitem__(i)

    options = TRAIN | {"batch_size": 11}
    size = options["image_size"]
    cached = train_batches(
        Counted(), **options, num_threads=0, cache_bytes=kept * size * size * 3 + 1
    )
    plain = train_batches(Numbers(), **options, num_threads=0)
    assert_same(take(cached, 2), take(plain, 2))  # two epochs, as neighbours can be in either
    reads.clear()
    assert_same(take(cached, 2), take(plain, 2))
    assert len(reads) == pytest.approx(reads_later, abs=2 if kept < 11 else 0)
    assert all(i >= kept for i in reads)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_what_is_kept_of_a_batch_is_not_overwritten(num_threads):
    batches = train_batches(Numbers(), **TRAIN, num_threads=num_threads)
    kept, copies = [], []
    for batch in take(batches, 60):  # views of some arrays, of others nothing
        kept += [batch["image"][1:], batch["mask"][0, 2]]
        copies += [batch["image"][1:].copy(), batch["mask"][0, 2].copy()]
        del batch
    take(batches, 60)
    for view, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(view, copy)


def test_memory_is_used_again():
    batches = train_batches(Numbers(), **TRAIN, num_threads=0)
    addresses = set()
    for _ in range(200):
        addresses.add(next(batches)["image"].ctypes.data)
    assert len(addresses) <= 12


class Ramp(Numbers):
    """16 x 16 pictures; red is 16 x row, green 16 x column."""

    def __getitem__(self, i):
        rows, columns = np.mgrid[:16, :16]
        return np.stack([16 * rows, 16 * columns, 0 * rows], axis=-1).astype(np.uint8)


def test_zoom_cuts_half_of_the_pictures_to_squares_anywhere():
    """Slopes of the ramps tell how far a picture is enlarged, their corners where it is cut."""
    options = TRAIN | dict(batch_size=300, flip=False)
    plain, zoomed = (
        next(train_batches(Ramp(), **options, zoom=zoom, num_threads=0)) for zoom in (1.0, 2.0)
    )
    for key in ("mask", "index"):  # all else is the same
        np.testing.assert_array_equal(zoomed[key], plain[key])
    for key in ("image", "instance"):
        corners = zoomed[key][:, 0, 0, :2].astype(float)
        steps = (zoomed[key][:, 7, 7, :2] - corners) / 7  # levels a pixel: 32 of whole pictures
        np.testing.assert_allclose(steps[:, 0], steps[:, 1], atol=1)  # squares
        sides = steps[:, 0] / 2
        whole = (zoomed[key] == plain[key]).all((1, 2, 3))
        assert 0.4 < whole.mean() < 0.6
        cut = sides[~whole]
        assert 7.9 < cut.min() < 8.3 and 14 < cut.max() < 15.6
        # A square of side 8 begins at rows 0 to 8, 16 levels each.
        first = corners[sides < 9]
        assert first.min() <= 16 and 112 <= first.max() <= 128
        assert abs(np.corrcoef(first.T)[0, 1]) < 0.5
    assert (zoomed["image"] != zoomed["instance"]).any((1, 2, 3)).mean() > 0.6


@pytest.mark.parametrize(
    ("zoom", "kind", "message"),
    [(0.5, "box", r"zoom \(0.5\) must be 1 or more"),
     (2.0, "paired:masks", r"zoom \(2.0\) must be 1 with masks 'paired:masks'")],
)  # fmt: skip
def test_impossible_zooms_are_refused(zoom, kind, message):
    with pytest.raises(ValueError, match=message):
        train_batches(Numbers(), **(TRAIN | dict(masks=MaskOptions(kind), zoom=zoom)))


def test_flips(straight):
    flipped = [
        [image[0, -1, 0] == 200 for batch in straight for image in batch[key]]
        for key in ("image", "instance")
    ]
    assert 0.2 < np.mean(flipped[0]) < 0.8 and 0.2 < np.mean(flipped[1]) < 0.8
    assert flipped[0] != flipped[1]
    still = take(train_batches(Numbers(), **(TRAIN | {"flip": False})), 8)
    for batch, other in zip(straight, still, strict=True):  # all else is the same
        assert (other["image"][:, 0, 0] == 200).all()
        np.testing.assert_array_equal(batch["mask"], other["mask"])
        np.testing.assert_array_equal(batch["image"].max((1, 2)), other["image"].max((1, 2)))


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_thread_count_does_not_matter(straight, num_threads):
    assert_same(take(train_batches(Numbers(), **TRAIN, num_threads=num_threads), 8), straight)


def test_resume_is_exact(straight):
    assert_same(take(train_batches(Numbers(), **TRAIN, start_step=5), 3), straight[5:])


def test_another_seed_is_another_stream(straight):
    other = take(train_batches(Numbers(), **(TRAIN | {"seed": 4})), 8)
    assert any((a["mask"] != b["mask"]).any() for a, b in zip(straight, other, strict=True))


def test_processes_together_get_what_one_gets_and_resume_across_counts(straight):
    parts = [
        take(train_batches(Numbers(), **TRAIN, process_index=p, process_count=2, start_step=4), 4)
        for p in range(2)
    ]
    for whole, *rows in zip(straight[4:], *parts, strict=True):
        assert all(len(part["index"]) == 3 for part in rows)
        for key in whole:
            union = np.concatenate([part[key] for part in rows])
            np.testing.assert_array_equal(union, whole[key])


def test_eval_is_one_pass_in_order_with_a_short_last_batch():
    batches = list(eval_batches(Numbers(), **OPTIONS, batch_size=4, num_examples=100))
    assert [len(batch["index"]) for batch in batches] == [4, 4, 3]
    assert [i for batch in batches for i in batch["index"]] == list(range(11))
    assert [number(image) for batch in batches for image in batch["image"]] == list(range(11))
    assert all((batch["image"][:, 0, 0] == 200).all() for batch in batches)  # never flipped


def test_eval_examples_do_not_depend_on_batch_or_count():
    rows = {}
    for batch_size, count in ((4, 11), (3, 7)):
        batches = list(eval_batches(Numbers(), **OPTIONS, batch_size=batch_size,
                                    num_examples=count))  # fmt: skip
        rows[count] = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    for key in rows[7]:
        np.testing.assert_array_equal(rows[7][key], rows[11][key][:7])


def test_training_and_evaluation_share_their_preprocessing():
    # Same source pictures: what differs is order, flip and the random numbers only.
    train = take(train_batches(Numbers(), **(TRAIN | {"flip": False})), 2)
    evaluated = list(eval_batches(Numbers(), **OPTIONS, batch_size=11, num_examples=11))[0]
    for image in np.concatenate([batch["image"] for batch in train]):
        np.testing.assert_array_equal(image, evaluated["image"][number(image)])


def test_one_picture_is_its_own_instance():
    batch = next(train_batches(Numbers(1), **(TRAIN | {"flip": False})))
    np.testing.assert_array_equal(batch["image"], batch["instance"])


def test_errors_come_before_any_work():
    with pytest.raises(ValueError, match=r"Batch size \(6\).*processes \(4\)"):
        train_batches(Numbers(), **TRAIN, process_count=4)
    with pytest.raises(ValueError, match=r"side \(8\) .* patch_size=3"):
        train_batches(Numbers(), **TRAIN, patch_size=3)
    with pytest.raises(ValueError, match="Unknown mask kind"):
        train_batches(Numbers(), **(TRAIN | {"masks": MaskOptions("star")}))
    with pytest.raises(ValueError, match="no pictures"):
        train_batches(Numbers(0), **TRAIN)
    with pytest.raises(ValueError, match="must be positive"):
        eval_batches(Numbers(), **OPTIONS, batch_size=4, num_examples=0)


def test_masks_match_draw_mask_polarity():
    center = MaskOptions("center", hole_share=(0.25, 0.25))
    batch = next(train_batches(Numbers(), **(TRAIN | {"masks": center})))
    expected = draw_mask(np.random.default_rng(0), center, image_size=8)
    assert expected[3, 3] == 1 and expected[0, 0] == 0
    assert (batch["mask"] == expected).all()
