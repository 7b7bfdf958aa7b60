"""Reads tensors out of a PyTorch file (`torch.save` of a state dict) without PyTorch."""

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

_TYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a saved state dict, by name, in the zip format or the one before it.

    Nothing in the file is executed: it may build tensors and dictionaries, and no other object.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a PyTorch file, is damaged, or holds other things than tensors.
    """
    data = Path(path).read_bytes()
    try:
        if zipfile.is_zipfile(io.BytesIO(data)):
            return _read_zip(zipfile.ZipFile(io.BytesIO(data)))
        return _read_legacy(io.BytesIO(data))
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        LookupError,
        AttributeError,
        TypeError,
        struct.error,
    ) as error:
        raise ValueError(f"{path} is not a PyTorch file of tensors: {error!r}") from error


class _Dictionary(dict):
    """Modules hang attributes on the dictionaries of their tensors."""


class _Storage:
    def __init__(self, kind, data=None):
        self.dtype, self.data = np.dtype(kind), data


class _Tensor:
    def __init__(self, storage, offset, size, stride, *_):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def array(self):
        flat = np.frombuffer(self.storage.data, self.storage.dtype)[self.offset :]
        strides = [step * flat.itemsize for step in self.stride]
        needed = 1 + sum(step * (n - 1) for step, n in zip(self.stride, self.size, strict=True))
        negative = min([self.offset, *self.stride, *self.size]) < 0
        if negative or (0 not in self.size and len(flat) < needed):
            raise EOFError("a tensor reaches beyond its storage")
        return np.lib.stride_tricks.as_strided(flat, self.size, strides).copy()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, load_storage):
        super().__init__(file)
        self.load_storage = load_storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return _Dictionary
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")

    def persistent_load(self, identity):
        return self.load_storage(*identity[1:])


def _read_zip(archive):
    (name,) = [n for n in archive.namelist() if n.endswith("/data.pkl")] or [None]
    if name is None:
        raise pickle.UnpicklingError("no data.pkl inside")
    folder = name.removesuffix("data.pkl")

    def load_storage(kind, key, *_):
        return _Storage(kind, archive.read(f"{folder}data/{key}"))

    return _arrays(_Unpickler(archive.open(name), load_storage).load())


def _read_legacy(file):
    storages = {}

    def load_storage(kind, key, *_):
        return storages.setdefault(key, _Storage(kind))

    def load():
        return _Unpickler(file, load_storage).load()

    if load() != _LEGACY_MAGIC:
        raise pickle.UnpicklingError("another magic number")
    load(), load()  # protocol version, machine
    tensors, order = load(), load()
    for key in order:  # the data come last, each with its length
        (count,) = struct.unpack("<q", file.read(8))
        storages[key].data = file.read(count * storages[key].dtype.itemsize)
    return _arrays(tensors)


def _arrays(tensors):
    if not isinstance(tensors, dict):
        raise pickle.UnpicklingError("it holds no dictionary")
    return {name: t.array() for name, t in tensors.items() if isinstance(t, _Tensor)}
