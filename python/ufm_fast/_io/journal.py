"""Files of JSON lines that grow as work is done, and are continued after an interruption."""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from .files import FileError, naming, open_in_place, reading, regular_file, write_file

if sys.platform != "win32":
    import fcntl

Record = dict[str, Any]

_CHECKSUM = "crc32"


class Journal:
    """A file whose first line says what it belongs to, with one more line for each piece of work that is finished.

    A file that exists must have the same header; its records are in `records`, and a line that was not finished is cut
    off. A pipe or a device gets the header and the lines, and is not read. The file is open until the end of a with
    statement, and is locked for other journals until then (on POSIX systems, where the file system has locks).

    Parameters
    ----------
    path : Path
    header : dict

    Raises
    ------
    FileError
        If the file is damaged, belongs to something else or is in use.
    OSError
        If it cannot be read or written.
    """

    def __init__(self, path: Path, header: Record) -> None:
        self.path, self.records = path, list[Record]()
        with naming(path):
            target = regular_file(path)
            self._in_place = target is None
            new = target is None or not target.exists()
            self._stream = open_in_place(path) if target is None else _open(target, "xb" if new else "r+b")
        try:
            if new:
                self.append(header)
            else:
                self._continue(header)
        except BaseException:
            self._stream.close()
            if new and target is not None:
                target.unlink()
            raise

    def _continue(self, header: Record) -> None:
        theirs, self.records, size = _read(self.path)
        if theirs != json.loads(json.dumps(header)):
            raise FileError(f"{self.path} belongs to other models or settings; choose another file")
        self._stream.truncate(size)
        self._stream.seek(size)

    def append(self, record: Record) -> None:
        """Add a line, which is on the disk when this returns; if it raises, the line is not in the file.

        A process that is killed leaves at worst its last line unfinished.
        """
        line, handle = memoryview(_line(record)), self._stream.fileno()
        with naming(self.path):
            if self._in_place:
                _write(handle, line)
                return
            size = self._stream.tell()
            try:
                _write(handle, line)
                os.fsync(handle)
            except BaseException:
                self._stream.truncate(size)
                self._stream.seek(size)
                raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


def write_journal(path: Path, header: Record, records: Iterable[Record]) -> None:
    """Write a whole journal at once."""
    lines = b"".join(map(_line, [header, *records]))
    write_file(path, lambda stream: stream.write(lines))


def read_journal(path: Path) -> tuple[Record, list[Record]]:
    """Return the header of a journal and its records.

    Raises
    ------
    FileError
        If it is no journal, or is damaged.
    OSError
        If it cannot be opened.
    """
    header, records, _ = _read(path)
    return header, records


def _open(path: Path, mode: str) -> IO[bytes]:
    """Open without a buffer, for one process at a time."""
    stream = open(path, mode, buffering=0)  # noqa: SIM115 - the journal closes it
    if sys.platform != "win32":
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            raise FileError(f"{path} is being written by another process") from error
        except OSError:  # a file system without locks
            pass
    return stream


def _write(handle: int, content: memoryview) -> None:
    """Write all of the content: the system may take a part at a time, as much as a full disk still holds at last."""
    while content:
        content = content[os.write(handle, content) :]


def _line(content: Record) -> bytes:
    return json.dumps({**content, _CHECKSUM: _checksum(content)}).encode() + b"\n"


def _checksum(content: Record) -> int:
    """Python's JSON text of an object does not change when it is read and written again."""
    return zlib.crc32(json.dumps(content, allow_nan=False).encode())


def _read(path: Path) -> tuple[Record, list[Record], int]:
    """Return the header, the records and the number of bytes they take up to the last end of a line."""
    with reading(path):
        content = path.read_bytes()
        size = content.rfind(b"\n") + 1
        if not size:
            raise ValueError("it is empty, or its first line is not finished")
    entries = []
    for number, line in enumerate(content[: size - 1].split(b"\n"), 1):
        with reading(f"line {number} of {path}"):
            entry = json.loads(line)
            if not isinstance(entry, dict) or entry.pop(_CHECKSUM, None) != _checksum(entry):
                raise ValueError("it is no JSON object with the right checksum")
            entries.append(entry)
    header, *records = entries
    return header, records, size
