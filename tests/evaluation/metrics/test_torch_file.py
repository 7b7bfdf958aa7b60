"""The files in `data` were written by `torch.save` of PyTorch 2.13, in both of its formats."""

import collections
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from uctgan_jax.evaluation.metrics.torch_file import _Storage, _Tensor, read_torch_file

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("name", ["small_zip.pth", "small_legacy.pth"])
def test_reads_both_formats(name):
    arrays = read_torch_file(DATA / name)
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = {
        "a": base,
        "transposed": base.T,  # a view: the same storage, other strides
        "part": base[1:, 2],
        "count": np.array(7),
        "half": np.array([1.5, -2], np.float16),
    }
    assert set(arrays) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(arrays[key], value)
        assert arrays[key].dtype == value.dtype


def test_a_modules_own_dictionary_is_read(tmp_path):
    """`Module.state_dict()` gives an OrderedDict with an attribute."""
    state = collections.OrderedDict()
    state._metadata = {"": {"version": 1}}
    with zipfile.ZipFile(tmp_path / "state.pth", "w") as file:
        file.writestr("state/data.pkl", pickle.dumps(state, protocol=2))
    assert read_torch_file(tmp_path / "state.pth") == {}


def test_builds_no_other_objects():
    with pytest.raises(ValueError, match="it holds a torch.nn"):
        read_torch_file(DATA / "module.pth")


@pytest.mark.parametrize("name", ["small_zip.pth", "small_legacy.pth"])
def test_a_file_cut_short_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes((DATA / name).read_bytes()[:-60])
    with pytest.raises(ValueError, match="is not a PyTorch file"):
        read_torch_file(path)


@pytest.mark.parametrize(("offset", "stride"), [(1, (-1,)), (-1, (1,))])
def test_a_tensor_before_its_storage_is_refused(offset, stride):
    storage = _Storage(np.float32, np.arange(3, dtype=np.float32).tobytes())
    np.testing.assert_array_equal(_Tensor(storage, 1, (2,), (1,)).array(), [1, 2])
    with pytest.raises(EOFError, match="beyond its storage"):
        _Tensor(storage, offset, (2,), stride).array()


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is not a PyTorch file"):
        read_torch_file(__file__)
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / "missing.pth")
