"""The examples of the documentation give what they say."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from uctgan_jax.images import write_image

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def folder(tmp_path, monkeypatch, inpainter, picture_folder):
    """What the examples find in the current folder."""
    inpainter.save(tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    mask = np.zeros((60, 90, 3), np.uint8)
    mask[20:40, 30:60] = 255
    write_image(tmp_path / "picture.png", image)
    write_image(tmp_path / "mask.png", mask)
    (tmp_path / "pictures").symlink_to(picture_folder)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", ["api.md"])
def test_examples(page, folder):
    text = (DOCS / page).read_text()
    names: dict = {}
    runner = doctest.DocTestRunner()
    for block in re.finditer(r"```pycon\n(.*?)```", text, re.DOTALL):
        line = text[: block.start(1)].count("\n")
        example = doctest.DocTestParser().get_doctest(block[1], names, page, str(DOCS / page), line)
        runner.run(example, clear_globs=False)
        names = example.globs
    assert runner.tries > 40
    assert runner.failures == 0
