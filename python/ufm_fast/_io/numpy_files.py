"""Arrays in ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from .files import check_end, members_of, reading
from .stored import StoredArray, check_size, raw, shown_name

_SUFFIX = ".npy"


def read_array(path: Path) -> NDArray[Any]:
    """Read an ``.npy`` file. There is no checksum in it, so damaged numbers are not seen.

    Raises
    ------
    FileError
        If it is damaged, or holds Python objects.
    OSError
        If it cannot be opened.
    """
    with reading(path), path.open("rb") as stream:
        return _whole(stream, path.stat().st_size)


def read_archive(path: Path, names: Iterable[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the arrays with these names, or all, of an ``.npz`` archive, and verify their checksums.

    Raises
    ------
    FileError
        If the archive is damaged, lacks one of them, or one of them holds Python objects.
    OSError
        If it cannot be opened.
    """
    with reading(path), _archive(path) as archive:
        members = _arrays_of(archive)
        wanted = list(members if names is None else names)
        missing = [name for name in wanted if name not in members]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}: it must hold {', '.join(wanted)}")
        found = {}
        for name in wanted:
            with archive.open(members[name]) as member:
                found[name] = _whole(member, members[name].file_size)
        return found


def npy_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the one array, named like the file; there are no checksums."""
    stream = files.enter_context(path.open("rb"))
    return {path.stem: _stored(stream, path.stem, path, path.stat().st_size, checked=False)}


def npz_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the arrays of an archive; the checksum of one is verified when its last row is read."""
    archive = files.enter_context(_archive(path))
    found: dict[str, StoredArray] = {}
    for name, member in _arrays_of(archive).items():
        with reading(f"{shown_name(name)} in {path}"):
            stream = files.enter_context(archive.open(member))
            found[name] = _stored(stream, name, path, member.file_size, checked=True)
    return found


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile:
        raise ValueError("it must be an .npz archive") from None
    with archive:
        yield archive


def _arrays_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members = members_of(archive).items()
    return {name.removesuffix(_SUFFIX): member for name, member in members if name.endswith(_SUFFIX)}


def _whole(stream: IO[bytes], size: int) -> NDArray[Any]:
    """Read an array of any type but Python objects."""
    _header(stream, size)
    stream.seek(0)
    array: NDArray[Any] = npy_format.read_array(stream, allow_pickle=False)
    check_end(stream)
    return array


def _header(stream: IO[bytes], size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order (whether Fortran's) and type of an array that must fill a file of so many bytes."""
    version = npy_format.read_magic(stream)
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, by_columns, dtype = read_header(stream)
    if min(shape, default=0) < 0 or not dtype.itemsize:
        raise ValueError(f"it must not be of shape {shape} and type {dtype}")
    if not dtype.hasobject:
        check_size(stream.tell(), shape, dtype, size)
    return shape, by_columns, dtype


def _stored(stream: IO[bytes], name: str, path: Path, size: int, *, checked: bool) -> StoredArray:
    shape, by_columns, dtype = _header(stream, size)
    read = raw(lambda: stream, stream.tell(), shape, dtype, by_columns=by_columns, checked=checked)
    return StoredArray(name, path, shape, dtype, read)
