import numpy as np

from uctgan_jax.evaluation.shown import choose_pictures, complete_pictures


def test_the_pictures_worth_a_look():
    measurements = [
        {"index": 10 + i, "diversity": {"lpips_hole": d}, "samples": {"lpips": [r, r + 0.1]}}
        for i, (d, r) in enumerate([(0.3, 0.5), (0.1, 0.2), (0.2, 0.9), (0.5, 0.3), (0.4, 0.4)])
    ]
    assert choose_pictures(measurements, num_shown=3) == {
        "first pictures": [10, 11, 12],
        "most diverse": [13, 14],
        "least diverse": [11, 12],
        "best realism": [11, 13],
        "worst realism": [12, 10],
    }
    assert choose_pictures([{**measurements[0], "diversity": {}}]) == {"first pictures": [10]}


def test_pictures_are_completed_again_as_they_were_measured():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    masks = np.zeros((5, 8, 8, 1), np.uint8)
    masks[:, 2:5, 2:6] = 1
    batches = [
        {"image": images[rows], "mask": masks[rows], "index": np.arange(5)[rows]}
        for rows in (slice(0, 2), slice(2, 4), slice(4, 5))
    ]

    def complete(images, masks, index):
        """Two completions, which alter known pixels too."""
        assert len(images) == 2  # one size of batch, so that nothing is compiled twice
        return (
            np.stack([images // 2, images // 3], axis=1)
            + np.uint8(index)[:, None, None, None, None]
        )

    shown = complete_pictures(complete, batches, [4, 0])
    assert set(shown) == {0, 4}
    for index, (image, mask, completions) in shown.items():
        np.testing.assert_array_equal(image, images[index])
        np.testing.assert_array_equal(mask, masks[index])
        expected = np.stack([image // 2, image // 3]) + np.uint8(index)
        np.testing.assert_array_equal(completions, np.where(mask == 1, expected, image))
