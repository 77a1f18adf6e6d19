"""Arrays in ``.npy`` and ``.npz`` files."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from numpy.lib import format as npy_format

from .files import reading
from .stored import StoredArray, check_size, raw


def npy_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the one array, named like the file; there are no checksums."""
    stream = files.enter_context(path.open("rb"))
    return {path.stem: _stored(stream, path.stem, path, path.stat().st_size, checked=False)}


def npz_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the arrays of an archive; the checksum of one is verified when its last row is read."""
    try:
        archive = files.enter_context(zipfile.ZipFile(path))
    except zipfile.BadZipFile:
        raise ValueError("it must be an .npz archive") from None
    found: dict[str, StoredArray] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            continue
        if name in found:
            raise ValueError(f"it must not hold two arrays {name}")
        with reading(f"{name} in {path}"):
            stream = files.enter_context(archive.open(member))
            found[name] = _stored(stream, name, path, member.file_size, checked=True)
    return found


def _stored(stream: IO[bytes], name: str, path: Path, size: int, *, checked: bool) -> StoredArray:
    version = npy_format.read_magic(stream)
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, by_columns, dtype = read_header(stream)
    start = stream.tell()
    if not dtype.hasobject:
        check_size(start, shape, dtype, size)
    read = raw(lambda: stream, start, shape, dtype, by_columns=by_columns, checked=checked)
    return StoredArray(name, path, shape, dtype, read)
