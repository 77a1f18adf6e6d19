"""An array within a file, read a slice of rows at a time, whatever the file's format."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .files import FileError, reading

#: Reads the rows from the first number up to the second.
Read = Callable[[int, int], NDArray[Any]]

#: Kinds of NumPy types that hold numbers.
NUMBERS = "fiubc"


class StoredArray:
    """An array in a file. Nothing is read before a slice of its rows is asked for.

    Parameters
    ----------
    name : str
        Its name in the file.
    file : Path
    shape : tuple of int
    dtype : numpy.dtype
        Of the slices.
    read : callable
        Given the first row and the one after the last, reads what lies between.

    Raises
    ------
    ValueError
        If its shape is none; when sliced with a step.
    FileError
        When sliced, if it has no rows, holds no numbers or is damaged; names array and file.
    """

    def __init__(self, name: str, file: Path, shape: tuple[int, ...], dtype: Any, read: Read) -> None:
        if min(shape, default=0) < 0:
            raise ValueError(f"{shown_name(name)} must not have the shape {shape}")
        self.name, self.file, self.shape, self.dtype, self._read = name, file, shape, np.dtype(dtype), read

    def __str__(self) -> str:
        return f"{shown_name(self.name)} in {self.file}"

    def __len__(self) -> int:
        if not self.shape:
            raise FileError(f"{self} must have rows, but holds one number")
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, step = rows.indices(len(self))
        if step != 1:
            raise ValueError("rows are read in order, without gaps")
        last = max(first, last)
        with reading(str(self)):
            if self.dtype.kind not in NUMBERS:
                raise ValueError(f"it must hold numbers, not {_described(self.dtype)}")
            found = self._read(first, last)
            due = (last - first, *self.shape[1:])
            if found.shape != due or found.dtype.newbyteorder("=") != self.dtype.newbyteorder("="):
                raise ValueError(f"it gave {found.dtype} of shape {found.shape}, where {self.dtype} of {due} was due")
            return found


def shown_name(name: str) -> str:
    """Return a name from a file as a message may have it, in one line."""
    return name if name.isprintable() else repr(name)


def _described(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "O":
        return "Python objects"
    hint = ": a bfloat16 array loses its type in numpy.save, astype(float32) before it keeps the values"
    return f"{dtype}{hint if dtype == np.dtype('V2') else ''}"


def refused(name: str, file: Path, shape: tuple[int, ...], why: str) -> StoredArray:
    """Make an array that is there, but says why it cannot be read when it is."""

    def read(first: int, last: int) -> NoReturn:
        raise ValueError(why)

    return StoredArray(name, file, shape or (0,), float, read)


def kept(load: Callable[[], NDArray[Any]]) -> Read:
    """Read rows of an array that is loaded as a whole when the first are asked for, and kept."""
    load = cache(load)
    return lambda first, last: load()[first:last]


def raw(
    opened: Callable[[], IO[bytes]],
    start: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    by_columns: bool = False,
    checked: bool = False,
) -> Read:
    """Read the rows of an array whose entries lie one after the other in a seekable stream.

    Parameters
    ----------
    opened : callable
        Opens the stream, once.
    start : int
        Where in it the array begins.
    shape : tuple of int
    dtype : numpy.dtype
    by_columns : bool, optional
        Whether the first index runs fastest (Fortran's order).
    checked : bool, optional
        Whether the stream verifies a checksum at its end, and going back in it is reading it again from its start.

    Returns
    -------
    callable
        As `StoredArray` needs it. By columns it goes to each column, or keeps the whole where that cannot be done.
    """
    opened = cache(opened)
    row = math.prod(shape[1:])

    def part(offset: int, count: int) -> NDArray[Any]:
        stream, found = opened(), np.empty(count, dtype)
        stream.seek(start + offset * dtype.itemsize)
        if stream.readinto(found.view(np.uint8)) < found.nbytes:  # type: ignore[attr-defined]
            raise ValueError("it is truncated")
        return found

    def rows(first: int, last: int) -> NDArray[Any]:
        found = part(first * row, (last - first) * row).reshape(last - first, *shape[1:])
        if checked and last == shape[0]:
            while opened().read(1 << 20):  # what follows in the stream belongs to other arrays
                pass
        return found

    def columns(first: int, last: int) -> NDArray[Any]:
        found = np.empty((row, last - first), dtype)
        for column in range(row):
            found[column] = part(column * shape[0] + first, last - first)
        return np.ascontiguousarray(found.T).reshape((last - first, *shape[1:]), order="F")

    if not by_columns or len(shape) < 2:
        return rows
    if not checked:
        return columns
    return kept(lambda: rows(0, shape[0]).reshape(-1).reshape(shape, order="F"))


def check_size(start: int, shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    """Refuse an array that does not end where its file does.

    Raises
    ------
    ValueError
        If there is more in the file, or less.
    """
    wanted = start + math.prod(shape) * dtype.itemsize
    if wanted > size:
        raise ValueError(f"it is truncated: it has {size} bytes, and {wanted} for {dtype} of shape {shape}")
    if wanted < size:
        raise ValueError(f"there is more in it than its header says: it has {size} bytes, and {wanted} are due")


def widened(read: Read) -> Read:
    """Turn rows of bfloat16 bits into float32, which has the same values."""
    return lambda first, last: (read(first, last).astype(np.uint32) << 16).view(np.float32)


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Put rows on top of each other, masked if some are."""
    concatenate: Any = np.ma.concatenate if any(map(np.ma.is_masked, parts)) else np.concatenate
    found: NDArray[Any] = concatenate(parts)
    return found
