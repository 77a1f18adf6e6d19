"""Tensors in files that ``torch.save`` wrote, read without PyTorch and without running anything that is in them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from .files import check_end, members_of
from .stored import StoredArray, refused
from .torch_pickle import Other, Storage, StoredValue, unpickle

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
#: Tables of a pickled module, which hold its tensors and its parts under their own names.
_MODULE_TABLES = ("_parameters", "_buffers", "_modules")


def torch_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open all tensors and NumPy arrays, at any depth of dicts, lists and objects of whatever class.

    A name is the keys on the way, joined by dots; a file of one tensor has it named like the file. The format of
    PyTorch 1.6 and later has checksums, verified when the last row of a tensor is read.
    """
    stream = files.enter_context(path.open("rb"))
    content = _zipped(stream, files) if zipfile.is_zipfile(stream) else _legacy(stream)
    found: dict[str, StoredArray] = {}
    for key, value in _walk(content, "", set()):
        name = key or path.stem
        found[name] = (
            refused(name, path, value.shape, "it is the name of two arrays")
            if name in found
            else value.stored(name, path)
        )
    return found


def _zipped(stream: IO[bytes], files: ExitStack) -> Any:
    archive = files.enter_context(zipfile.ZipFile(stream))
    members = members_of(archive)
    folder = next((name[: -len("data.pkl")] for name in members if name.endswith("data.pkl")), None)
    if folder is None:
        raise ValueError("it must be a file that torch.save wrote, but this archive has no data.pkl")
    order = ">" if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") == b"big" else "<"

    def storage(key: str, dtype: str, size: int) -> Storage:
        member = members.get(f"{folder}data/{key}")
        if member is None or member.file_size != size:
            there = 0 if member is None else member.file_size
            raise ValueError(f"storage {key} has {there} bytes, where {size} are due")
        return Storage(lambda: archive.open(member), size, dtype, order, checked=True)

    return unpickle(io.BytesIO(archive.read(f"{folder}data.pkl")), storage)


def _legacy(stream: IO[bytes]) -> Any:
    """Take apart what PyTorch before 1.6 wrote: five pickles, then each storage behind the number of its entries."""
    storages: dict[str, Storage] = {}
    stream.seek(0)
    try:
        is_one = unpickle(stream) == _MAGIC and unpickle(stream) == _PROTOCOL
    except Exception:  # whatever a pickle in it led to, there is no such file
        is_one = False
    if not is_one:
        raise ValueError("it must be a file that torch.save wrote")
    system = unpickle(stream)
    if not isinstance(system, dict) or type(system.get("little_endian")) is not bool:
        raise ValueError("it does not say how the bytes of a number are ordered")
    order = "<" if system["little_endian"] else ">"

    def storage(key: str, dtype: str, size: int) -> Storage:
        return storages.setdefault(key, Storage(lambda: stream, size, dtype, order, checked=False))

    content, keys = unpickle(stream, storage), unpickle(stream)
    if sorted(keys) != sorted(storages):
        raise ValueError(f"its tensors need {len(storages)} storages, but {len(keys)} others are there")
    for key in keys:
        entries = int.from_bytes(stream.read(8), "little" if order == "<" else "big")
        here = storages[key]
        here.start = stream.tell()
        if entries * here.itemsize != here.size:
            raise ValueError(f"storage {key} has {entries} entries, where {here.size // here.itemsize} are due")
        if stream.seek(here.start + here.size) > stream.seek(0, io.SEEK_END):
            raise ValueError("it is truncated")
        stream.seek(here.start + here.size)
    check_end(stream)
    return content


def _walk(value: Any, name: str, seen: set[int]) -> Iterator[tuple[str, StoredValue]]:
    """Give what is stored as rows in a pickled object, with the keys on the way; no container twice."""
    if isinstance(value, StoredValue):
        yield name, value
        return
    children: Any = ()
    if isinstance(value, Other):
        children = [("", part) for part in value.parts]
    elif isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    if id(value) in seen:
        return
    seen.add(id(value))
    for key, child in children:
        own = "" if key in _MODULE_TABLES else str(key)
        yield from _walk(child, ".".join(filter(None, (name, own))), seen)
