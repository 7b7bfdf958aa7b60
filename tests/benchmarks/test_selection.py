"""The benchmark of selecting, on an untrained model."""

import numpy as np
import pytest

from benchmarks.selection import measure


@pytest.mark.slow
def test_each_way_is_measured(inpainter, batch):
    alone = inpainter.on_device(inpainter.devices[0])
    pictures = [{name: rows[i : i + 1] for name, rows in batch.items()} for i in range(2)]
    figures = measure(alone, pictures, num_samples=2)
    assert list(figures) == ["none", "diverse", "realistic", "both"]
    for of_way in figures.values():
        assert all(np.isfinite(value) for value in of_way.values())
        assert of_way["least_difference"] <= of_way["difference"]
    assert figures["diverse"]["difference"] > figures["none"]["difference"]
    assert figures["realistic"]["realism"] > figures["none"]["realism"]
