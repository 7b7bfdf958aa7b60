import pytest

from uctgan_jax.files import make_writable


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path):
    make_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("folder", ["/proc/self", "/dev/null", "/dev/null/below"])
def test_one_that_cannot_is_named(folder, tmp_path):
    with pytest.raises(OSError, match=f"{folder} cannot be written"):
        make_writable(tmp_path / folder)
