"""Variables in ``.mat`` files of MATLAB 5 to 7 (elements one after the other) and 7.3 (HDF5)."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from .hdf5_files import matlab_hdf5_arrays
from .stored import Read, StoredArray, raw, refused

_HEADER, _TAG = 128, 8
_BEGINNING = 4096  # of a variable: holds its name and its shape
_MATRIX, _COMPRESSED = 14, 15
#: What entries are stored as, by the type of the element.
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
#: What they are, by the class of the variable.
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHERS = {1: "a cell array", 2: "a struct", 3: "an object", 4: "text", 5: "a sparse matrix"}
_COMPLEX = 0x800


def matlab_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the variables, of two dimensions or more as in MATLAB. Compressed ones are read as a whole, and verified."""
    stream = files.enter_context(path.open("rb"))
    header = stream.read(_HEADER)
    if header.startswith(b"MATLAB 7.3"):
        return matlab_hdf5_arrays(path, files)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:])
    if order is None:
        raise ValueError("it must be a .mat file of MATLAB 5 or later: save(..., '-v7.3') writes one")
    size = path.stat().st_size
    found: dict[str, StoredArray] = {}
    while stream.tell() < size:
        kind, length, start = _tag(stream, order)
        if start + length > size:
            raise ValueError("it is truncated")
        if kind == _COMPRESSED:
            variable = _compressed(stream, start, length, order, path)
        elif kind == _MATRIX:
            variable = _variable(stream, start + length, order, path, lambda: stream)
        else:
            raise ValueError(f"there is an element of type {kind}, which is no variable")
        if variable.name in found:
            raise ValueError(f"it must not hold two variables {variable.name}")
        found[variable.name] = variable
        stream.seek(start + length)
    return found


def _compressed(stream: IO[bytes], start: int, length: int, order: str, path: Path) -> StoredArray:
    def load() -> IO[bytes]:
        stream.seek(start)
        whole = zlib.decompressobj()
        content = whole.decompress(stream.read(length), end + 1)
        if len(content) != end or not whole.eof:
            raise ValueError(f"it does not have the {end} bytes that are due, or the wrong checksum")
        return io.BytesIO(content)

    beginning = io.BytesIO(zlib.decompressobj().decompress(stream.read(min(length, _BEGINNING)), _BEGINNING))
    kind, matrix_length, matrix_start = _tag(beginning, order)
    if kind != _MATRIX:
        raise ValueError(f"there is a compressed element of type {kind}, which is no variable")
    end = matrix_start + matrix_length
    return _variable(beginning, end, order, path, load)


def _variable(stream: IO[bytes], end: int, order: str, path: Path, opened: Callable[[], IO[bytes]]) -> StoredArray:
    """Describe the matrix whose parts begin here; its numbers will be read from what `opened` gives."""
    flags = int(_part(stream, order, "u4")[0])
    shape = tuple(_part(stream, order, "i4").tolist())
    name = _part(stream, order, "u1").tobytes().decode()
    kind = flags & 0xFF
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"{name} must not have the shape {shape}")
    if kind not in _CLASSES or flags & _COMPLEX:
        what = "complex numbers" if kind in _CLASSES else _OTHERS.get(kind, f"one of class {kind}")
        return refused(name, path, shape, f"it must be a full array of real numbers, not {what}")
    stored, length, start = _tag(stream, order)
    dtype = np.dtype(order + _STORED[stored])
    if length != math.prod(shape) * dtype.itemsize or start + length > end:
        raise ValueError(f"{name} has {length} bytes of {dtype}, which is not what shape {shape} needs")
    read: Read = raw(opened, start, shape, dtype, by_columns=True)
    due = _CLASSES[kind]
    return StoredArray(name, path, shape, due, lambda first, last: read(first, last).astype(due))


def _tag(stream: IO[bytes], order: str) -> tuple[int, int, int]:
    """Return type, bytes and start of the part that begins here, and go to its start."""
    first, length = np.frombuffer(stream.read(_TAG), f"{order}u4", 2).tolist()
    if first >> 16:  # a small part, within its tag
        return first & 0xFFFF, first >> 16, stream.seek(-4, io.SEEK_CUR)
    return first, length, stream.tell()


def _part(stream: IO[bytes], order: str, dtype: str) -> np.ndarray[tuple[int], np.dtype[np.integer]]:
    _, length, start = _tag(stream, order)
    content = stream.read(length)
    stream.seek(-(start + length) % _TAG + start + length)
    found = np.frombuffer(content, order + dtype)
    if len(content) != length or not (found.size or dtype == "u1"):
        raise ValueError("a variable is truncated")
    return found
