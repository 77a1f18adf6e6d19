"""A file from which a run goes on as if it had never been interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from .._io.files import FileError, check_destination, reading, write_file
from .._io.numpy_files import read_archive
from .._model.model import UFM
from .._model.point import Point
from .._model.storage import describe_ufm

INTERVAL = 30.0  # seconds between writes

Content = dict[str, Any]


class Checkpoint:
    """The file of one run. `content` is what it held: arrays by name, empty if there was no file.

    Raises
    ------
    FileError
        If the file is damaged, is no checkpoint, or one of another run.
    OSError
        If it cannot be read, or could not be written.
    """

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path, self.header = path, header
        self.content: Content = {}
        self._offered: Content | None = None
        self._written = time.monotonic()
        target = check_destination(path)
        if target is not None and target.exists():
            self._read()

    def _read(self) -> None:
        with reading(self.path):
            content = read_archive(self.path)
            if "checkpoint" not in content:
                raise ValueError("it is not a checkpoint")
            theirs = json.loads(str(content.pop("checkpoint")))
            differing = ", ".join(sorted(key for key in self.header if theirs.get(key) != self.header[key]))
            if not differing and theirs.get("digest") != _digest(content):
                raise ValueError("its arrays are not those that were written")
        if differing:
            raise FileError(f"{self.path} belongs to a run with another {differing}; give the same or another file")
        self.content = content

    def offer(self, content: Content) -> None:
        """Take what the file should hold from now on, and write it if the last writing is long ago.

        Arrays must not change afterwards.
        """
        self._offered = content
        if time.monotonic() - self._written >= INTERVAL:
            self.write()

    def write(self) -> None:
        """Write what was offered last, if that is not done yet."""
        if self._offered is not None:
            content = {name: np.asanyarray(value) for name, value in self._offered.items()}
            header = json.dumps({**self.header, "digest": _digest(content)})
            write_file(self.path, lambda stream: np.savez(stream, **content, checkpoint=header))
            self._offered, self._written = None, time.monotonic()


def describe_run(ufm: UFM, x0: Point | None, **settings: Any) -> dict[str, Any]:
    """Give what a checkpoint belongs to, in JSON's types."""
    start = None if x0 is None else _digest(x0._asdict())
    return {"version": version("ufm-fast"), "model": describe_ufm(ufm), "start": start, **settings}


def _digest(arrays: Content) -> str:
    """Return a hash of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
