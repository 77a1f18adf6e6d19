"""Files of JSON lines that grow as work is done, and are continued after an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .storage import write_atomically

Record = dict[str, Any]


class JournalError(ValueError):
    """A file is not the journal it should be."""


class Journal:
    """A file whose first line says what it belongs to, with one more line for each piece of work that is finished."""

    def __init__(self, path: Path, header: Record) -> None:
        self.path, self.header = path, header

    def write(self, records: Iterable[Record] = ()) -> None:
        """Make the file anew, atomically."""
        lines = b"".join(map(_line, [self.header, *records]))
        write_atomically(self.path, lambda stream: stream.write(lines))

    def resume(self) -> list[Record]:
        """Return the records in the file, which is made if there is none, and cut off a line that was not finished.

        Raises
        ------
        JournalError
            If the file is no journal, or belongs to something else.
        OSError
            If it cannot be read or written.
        """
        if not self.path.exists():
            self.write()
        header, records, size = _read(self.path)
        if header != json.loads(_line(self.header)):
            raise JournalError(f"{self.path} belongs to other models or settings; choose another file")
        os.truncate(self.path, size)
        return records

    def append(self, record: Record) -> None:
        """Append in one system call, so that a process that is killed leaves at worst its last line unfinished."""
        with self.path.open("ab", buffering=0) as stream:
            stream.write(_line(record))


def read_journal(path: Path, kind: str) -> tuple[Record, list[Record]]:
    """Return the header of a journal, which must have `kind` as a key, and its records.

    Raises
    ------
    JournalError
        If the file is no such journal.
    OSError
        If it cannot be read.
    """
    header, records, _ = _read(path)
    if kind not in header:
        raise JournalError(f"{path} is not a {kind} file")
    return header, records


def _line(content: Record) -> bytes:
    return json.dumps(content, allow_nan=False).encode() + b"\n"


def _read(path: Path) -> tuple[Record, list[Record], int]:
    """Return the header, the records and the number of bytes they take up to the last end of a line."""
    content = path.read_bytes()
    size = content.rfind(b"\n") + 1
    try:
        header, *records = [json.loads(line) for line in content[:size].splitlines()]
    except ValueError as error:
        raise JournalError(f"{path} is not a file of JSON lines") from error
    if not all(isinstance(entry, dict) for entry in (header, *records)):
        raise JournalError(f"{path} is not a file of JSON objects")
    return header, records, size
