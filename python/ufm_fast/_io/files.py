"""Files as such: how the package writes one, and what it says of one that is damaged."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_STANDARD_OUTPUT = 1
_MOST_DEFLATED = 1032  # bytes in place of one, at most
_END_OF_ARCHIVE = 22 + 0xFFFF  # bytes of the last record of an archive, at most
_MANY = 0xFFFF  # members, or more


class FileError(ValueError):
    """A file is damaged, or is not what it should be."""


def write_file(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write to what a path names.

    A regular file is replaced when all is written, so that it is never half written; links to it are followed, and its
    permissions stay. A device, a pipe and standard output are written in place.

    Parameters
    ----------
    path : Path
    fill : callable
        Called with a binary stream.

    Raises
    ------
    OSError
        If the path cannot be written. A regular file is then as it was before.
    """
    with naming(path):
        target = regular_file(path)
        if target is None:
            content = io.BytesIO()  # archives seek in what they write, which a device seems to allow and does not
            fill(content)
            with open_in_place(path) as stream:
                stream.write(content.getbuffer())
            return
        temporary = target.with_name(f".ufm-fast-{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as stream:
                fill(stream)
                stream.flush()
                os.fsync(stream.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def check_destination(path: Path) -> Path | None:
    """Find out, without a change to it, whether `write_file` could write a path, and return its `regular_file`.

    Raises
    ------
    OSError
        If it is a directory, lies in no directory, or may not be written.
    """
    with naming(path):
        target = regular_file(path)
        if target is not None:
            if not target.parent.is_dir():
                raise FileNotFoundError(errno.ENOENT, "it must be a file in an existing directory")
            with tempfile.TemporaryFile(dir=target.parent):
                pass
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return target


def regular_file(path: Path) -> Path | None:
    """Follow the links of a path to the regular file that it names, or will name once it is written.

    Returns
    -------
    Path or None
        None for a device, a pipe, and whatever standard output goes to.

    Raises
    ------
    OSError
        If it is a directory, or no file can have that name.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return Path(os.path.realpath(path))
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode) or _is_standard_output(status):
        return None
    return Path(os.path.realpath(path))


def open_in_place(path: Path) -> IO[bytes]:
    """Open what `regular_file` gives None for; standard output goes on after what was printed."""
    if _is_standard_output(os.stat(path)):
        sys.stdout.flush()
        return open(_STANDARD_OUTPUT, "wb", closefd=False)
    return path.open("wb")


def _is_standard_output(status: os.stat_result) -> bool:
    try:
        return os.path.samestat(status, os.fstat(_STANDARD_OUTPUT))
    except OSError:  # it is closed
        return False


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the OSErrors of the system name the path, rather than a temporary file or nothing."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename == str(path):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def reading(source: Path | str) -> Iterator[None]:
    """Raise a FileError that names the source for whatever goes wrong while its content is taken apart.

    Parameters
    ----------
    source : Path or str
        A file, or a part of one in words.

    Raises
    ------
    FileError
        Instead of any other error.
    OSError, ImportError
        If the source could not be opened, or the package that reads it is missing: these name it.
    """
    try:
        yield
    except (FileError, FileNotFoundError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        words = " ".join(str(error).split())  # some libraries say it in several lines
        raise FileError(f"cannot read {source}: {words or type(error).__name__}") from error


def check_end(stream: IO[bytes]) -> None:
    """Refuse anything after an array. In an archive, only a reader that arrives at the end verifies the checksum."""
    if stream.read(1):
        raise ValueError("there is more in it than its header says")


def members_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the members of an archive by name.

    Raises
    ------
    ValueError
        If they are not as many as there must be, two have one name, or one is said to have more in it than its
        compressed bytes can hold.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    stream: Any = archive.fp
    stream.seek(max(0, stream.seek(0, io.SEEK_END) - _END_OF_ARCHIVE))
    end = stream.read()
    due = int.from_bytes(end[end.rfind(b"PK\x05\x06") :][10:12], "little")
    if due not in (_MANY, len(archive.infolist())):  # a damaged member may hide the next
        raise ValueError(f"it must have {due} members, but {len(archive.infolist())} are found")
    for member in archive.infolist():
        name = member.filename
        if members.setdefault(name, member) is not member:
            raise ValueError(f"it must not hold two members {name!r}")
        ratio = _MOST_DEFLATED if member.compress_type == zipfile.ZIP_DEFLATED else 1
        known = member.compress_type in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)
        if member.compress_size > archive.start_dir or (known and member.file_size > ratio * member.compress_size):
            raise ValueError(f"{name!r} cannot have {member.file_size} bytes: {member.compress_size} are there")
    return members
