"""Arrays in files of every kind, found by name and read a slice of rows at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from itertools import accumulate, pairwise
from os.path import realpath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .files import reading
from .hdf5_files import hdf5_arrays
from .matlab_files import matlab_arrays
from .numpy_files import npy_arrays, npz_arrays
from .parquet_files import parquet_arrays
from .safetensors_files import safetensors_arrays
from .stored import StoredArray, joined, shown_name
from .torch_files import torch_arrays

_READERS: dict[str, Callable[[Path, ExitStack], dict[str, StoredArray]]] = {
    ".npy": npy_arrays,
    ".npz": npz_arrays,
    ".safetensors": safetensors_arrays,
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".tar"), torch_arrays),
    ".h5": hdf5_arrays,
    ".hdf5": hdf5_arrays,
    ".mat": matlab_arrays,
    ".parquet": parquet_arrays,
}
SUFFIXES = tuple(_READERS)
_ADDRESS = re.compile(rf"(?P<file>.*?({'|'.join(map(re.escape, SUFFIXES))}))(:(?P<name>.+))?", re.IGNORECASE)
_LISTED = 24


@contextmanager
def open_arrays(*paths: Path, addressed: Sequence[Path] = ()) -> Iterator[StoredArrays]:
    """Open files and give their arrays by name; none is read before it is sliced.

    Parameters
    ----------
    *paths : Path
        ``.npy``, ``.npz``, ``.safetensors``, what ``torch.save`` wrote (``.pt``, ``.pth``, ``.ckpt``, ``.bin``,
        ``.tar``), ``.h5`` or ``.hdf5``, ``.mat``, ``.parquet``. An array alone in its file is named like the file,
        without the suffix.
    addressed : sequence of Path, optional
        More files, whose arrays are found by ``FILE:NAME`` alone.

    Yields
    ------
    StoredArrays
        To be used until the context ends.

    Raises
    ------
    OSError
        If a file cannot be opened.
    FileError
        If it is none of these, or is damaged: ``.npz`` and the zipped format of PyTorch have checksums, verified when
        the last row of an array is read, pages of ``.parquet`` may have them; in the other formats a number that was
        changed is not seen.
    ImportError
        If the package that reads it is not installed; names the file.
    """
    with ExitStack() as files:
        stored: list[StoredArray] = []
        for path in (*paths, *addressed):
            with reading(path):
                stored += _opened(path, files).values()
        yield StoredArrays(stored, addressed)


def _opened(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    with path.open("rb"):  # an error of the system, which names it, whatever the reader makes of it
        pass
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"it must be a file of one of these kinds: {', '.join(SUFFIXES)}")
    try:
        return reader(path, files)
    except ImportError as error:
        raise ImportError(f'{path} needs {error.name}: pip install "ufm-fast[io]"', name=error.name) from error


def split_address(text: str) -> tuple[Path | None, str]:
    """Split what names an array, ``NAME``, ``FILE:NAME`` or ``FILE``, into the file, if there is one, and the name."""
    found = _ADDRESS.fullmatch(text)
    return (None, text) if found is None else (Path(found["file"]), found["name"] or "")


class StoredArrays:
    """The arrays of some files, in their order.

    Parameters
    ----------
    stored : sequence of StoredArray
    addressed : sequence of Path, optional
        As for `open_arrays`.
    """

    def __init__(self, stored: Sequence[StoredArray], addressed: Sequence[Path] = ()) -> None:
        self._stored, self._addressed = stored, addressed

    def __contains__(self, name: str) -> bool:
        return bool(self.named(name))

    def __getitem__(self, name: str) -> Rows:
        return stacked(self.find(name))

    def named(self, name: str, file: Path | None = None) -> list[StoredArray]:
        """Return the arrays of exactly this name, in one file or all but those to be addressed."""
        return [array for array in self._among(file) if array.name == name]

    def _among(self, file: Path | None) -> list[StoredArray]:
        if file is None:
            return [array for array in self._stored if array.file not in self._addressed]
        return [array for array in self._stored if realpath(array.file) == realpath(file)]

    def find(self, address: str, usual: str = "") -> list[StoredArray]:
        """Find the arrays that an address means, in the order of the files.

        Parameters
        ----------
        address : str
            As for `split_address`. The name stands for arrays of this name; or, where there is none, for those that
            it is the end of, from a dot or a slash on, if these share one name; or for all that it matches as a
            pattern with ``*``, ``?`` or ``[...]``.
        usual : str, optional
            The name to look for in a file without one that has several arrays.

        Raises
        ------
        ValueError
            If there is none, or more than one name can be meant. Lists what is there.
        """
        file, name = split_address(address)
        there = self._among(file)
        if not name and len(there) == 1:
            return there
        name = name or usual
        found = [array for array in there if array.name == name]
        if not found:
            found = [array for array in there if array.name.endswith((f".{name}", f"/{name}"))]
            names = dict.fromkeys(array.name for array in found)
            if len(names) > 1:
                raise ValueError(f"{name} can mean {', '.join(map(shown_name, names))}: which one?")
        found = found or [array for array in there if fnmatchcase(array.name, name)]
        if not found:
            where = "the files" if file is None else str(file)
            raise ValueError(f"there is no array {name} in {where}, but {_listing(there) or 'none at all'}")
        return found


def _listing(arrays: Sequence[StoredArray]) -> str:
    shown = dict.fromkeys(f"{shown_name(array.name)} {array.shape}" for array in arrays)
    words = list(shown)
    if len(words) > _LISTED:
        half = _LISTED // 2
        words = [*words[:half], f"... ({len(words) - _LISTED} more)", *words[-half:]]
    return ", ".join(words)


class StackedArray:
    """Arrays on top of each other, read a slice of rows at a time.

    Parameters
    ----------
    parts : sequence of StoredArray or ColumnArray

    Raises
    ------
    ValueError
        If their shapes do not fit together.
    """

    def __init__(self, parts: Sequence[StoredArray | ColumnArray]) -> None:
        first = parts[0]
        for part in parts:
            if not part.shape or part.shape[1:] != first.shape[1:]:
                raise ValueError(f"{first} has shape {first.shape}, and {part} of shape {part.shape} cannot follow it")
        self.parts = parts
        self._starts = [0, *accumulate(part.shape[0] for part in parts)]
        self.shape = (self._starts[-1], *first.shape[1:])
        self.dtype = np.result_type(*(part.dtype for part in parts))

    def __str__(self) -> str:
        return f"{self.parts[0]} and {len(self.parts) - 1} more"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        first, last, _ = rows.indices(len(self))
        found = [
            part[max(first - start, 0) : max(last - start, 0)]
            for part, (start, end) in zip(self.parts, pairwise(self._starts), strict=True)
            if start <= last and first <= end
        ]
        return joined(found)


class ColumnArray:
    """Columns of a table beside each other, read a slice of rows at a time.

    Parameters
    ----------
    columns : sequence of StoredArray, shape (N,) each
    """

    def __init__(self, columns: Sequence[StoredArray]) -> None:
        first = columns[0]
        for column in columns:
            if column.shape != first.shape:
                raise ValueError(f"{first} has shape {first.shape}, and {column} of shape {column.shape} is beside it")
        self._columns = columns
        self.shape = (*first.shape, len(columns))
        self.dtype = np.result_type(*(column.dtype for column in columns))

    def __str__(self) -> str:
        return f"{shown_name(self._columns[0].name)} to {self._columns[-1]}"

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return np.stack([column[rows] for column in self._columns], axis=1)


Rows = StoredArray | StackedArray | ColumnArray


def stacked(parts: Sequence[StoredArray | ColumnArray]) -> Rows:
    """Put arrays on top of each other, unless there is but one."""
    return parts[0] if len(parts) == 1 else StackedArray(parts)


def stacked_features(parts: Sequence[StoredArray]) -> Rows:
    """Put arrays on top of each other; those with but one number in a row are columns of the table in their file."""
    if len(parts) == 1 or any(len(part.shape) != 1 for part in parts):
        return stacked(parts)
    tables: dict[Path, list[StoredArray]] = {}
    for part in parts:
        tables.setdefault(part.file, []).append(part)
    return stacked([ColumnArray(columns) for columns in tables.values()])


def check_same_rows(H: Rows, labels: Rows) -> None:
    """Refuse features and labels in as many parts each, but not of as many rows: they do not belong together.

    Raises
    ------
    ValueError
        Names the first parts that differ.
    """
    if isinstance(H, StackedArray) and isinstance(labels, StackedArray) and len(H.parts) == len(labels.parts):
        for features, own in zip(H.parts, labels.parts, strict=True):
            if features.shape[0] != own.shape[0]:
                raise ValueError(f"{features} has {features.shape[0]} rows, but {own} has {own.shape[0]}")


def agreed(parts: Sequence[StoredArray]) -> NDArray[Any]:
    """Read an array that may be in several files if it is the same in all.

    Raises
    ------
    ValueError
        If two differ; names them.
    """
    whole = parts[0][:]
    for part in parts[1:]:
        other = part[:]
        if (other.shape, other.dtype, other.tobytes()) != (whole.shape, whole.dtype, whole.tobytes()):
            raise ValueError(f"{parts[0]} and {part} must be the same, or FILE:NAME must say which is meant")
    return whole
