"""Arrays in files, read a slice of rows at a time: ``.npy``, ``.npz``, safetensors and PyTorch state dicts."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from .files import check_end, reading


class StoredArray:
    """An array in ``.npy`` format within an open binary stream, read a slice of rows at a time.

    Going back in a compressed stream reads it again from its start.

    Parameters
    ----------
    stream : binary file
        Seekable, at the beginning of the array.
    name : str
        For messages.

    Raises
    ------
    ValueError
        If it holds no array of numbers in C order.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        version = npy_format.read_magic(stream)
        read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        self.shape, in_fortran_order, self.dtype = read_header(stream)
        if self.dtype.hasobject:
            raise ValueError(f"{name} must hold numbers, not Python objects")
        if in_fortran_order and len(self.shape) > 1:
            raise ValueError(f"{name} must be in C order (numpy.ascontiguousarray brings it there), not in Fortran's")
        self._stream, self._name, self._start = stream, name, stream.tell()
        self._row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])

    def __len__(self) -> int:
        if not self.shape:
            raise ValueError(f"{self._name} must have rows, but holds one number")
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("rows are read in order, without gaps")
        count = max(0, last - first)
        with reading(self._name):
            self._stream.seek(self._start + first * self._row_bytes)
            data = bytearray(self._stream.read(count * self._row_bytes))
            if len(data) < count * self._row_bytes:
                raise ValueError("it is truncated")
            if last == len(self):
                check_end(self._stream)
            return np.frombuffer(data, dtype=self.dtype).reshape(count, *self.shape[1:])


@contextmanager
def open_arrays(*paths: Path) -> Iterator[dict[str, Any]]:
    """Open files and give their arrays by name; none is read before it is sliced (PyTorch's are memory-mapped).

    Parameters
    ----------
    *paths : Path
        ``.npy`` (its one array is named like the file, without the suffix), ``.npz``, ``.safetensors`` (needs the
        package safetensors), or ``.pt`` or ``.pth`` (needs torch): a state dict, or any dict of tensors.

    Yields
    ------
    dict of str to array-like
        With ``shape`` and slices of rows, until the context ends.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is none of these, two files hold an array of the same name, or it is damaged: an ``.npz`` archive has
        checksums, verified when the last row of an array is read; in the other formats a number that was changed is
        not seen.
    ModuleNotFoundError
        If the package that reads it is not installed.
    """
    with ExitStack() as files:
        arrays: dict[str, Any] = {}
        homes: dict[str, Path] = {}
        for path in paths:
            for name, array in _arrays(path, files).items():
                if name in arrays:
                    raise ValueError(f"{homes[name]} and {path} must not both hold an array {name}: which is meant?")
                arrays[name], homes[name] = array, path
        yield arrays


def _arrays(path: Path, files: ExitStack) -> dict[str, Any]:
    with reading(path):
        return _opened(path, files)


def _opened(path: Path, files: ExitStack) -> dict[str, Any]:
    if path.suffix == ".npy":
        return {path.stem: StoredArray(files.enter_context(path.open("rb")), str(path))}
    if path.suffix == ".npz":
        try:
            archive = files.enter_context(zipfile.ZipFile(path))
        except zipfile.BadZipFile:
            raise ValueError("it must be an .npz archive") from None
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        twice = next((name for name in members if members.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"it must not hold two arrays {twice[:-4]}")
        streams = {name[:-4]: files.enter_context(archive.open(name)) for name in members}
        return {name: StoredArray(stream, f"{name} in {path}") for name, stream in streams.items()}
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        tensors = files.enter_context(safe_open(str(path), framework="numpy"))
        names = list(tensors.keys())
        return {name: _SafetensorsArray(tensors.get_slice(name), f"{name} in {path}") for name in names}
    if path.suffix in (".pt", ".pth"):
        import torch

        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(tensors, dict):
            raise ValueError(f"it must hold a state dict, not a {type(tensors).__name__}")
        return {name: _numpy_view(value) for name, value in tensors.items() if isinstance(value, torch.Tensor)}
    raise ValueError("it must be a .npy, .npz, .safetensors, .pt or .pth file")


class _SafetensorsArray:
    def __init__(self, tensor: Any, name: str) -> None:
        self._tensor, self._name, self.shape = tensor, name, tuple(tensor.get_shape())

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        try:
            array: NDArray[Any] = self._tensor[rows]
        except (TypeError, AttributeError):
            dtype = self._tensor.get_dtype()
            raise TypeError(f"{self._name} must be of a type that NumPy has, such as F32, not {dtype}") from None
        return array


def _numpy_view(tensor: Any) -> NDArray[Any]:
    """Return a tensor's own memory as an array; bfloat16, which NumPy lacks, is converted to float32."""
    tensor = tensor.detach()
    array: NDArray[Any] = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return array
