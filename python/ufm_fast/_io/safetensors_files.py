"""Arrays in ``.safetensors`` files: a header in JSON, and the numbers behind it."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from .stored import StoredArray, raw, refused, widened

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8",
}  # fmt: skip
_ENTRIES = {"dtype", "shape", "data_offsets"}


def safetensors_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the tensors, bfloat16 as float32; there are no checksums."""
    stream = files.enter_context(path.open("rb"))
    size = path.stat().st_size
    length = int.from_bytes(stream.read(8), "little")
    if length > size - 8:
        raise ValueError("it must be a safetensors file, but its header is longer than the file")
    header = json.loads(stream.read(length).decode())
    if not isinstance(header, dict):
        raise ValueError("it must be a safetensors file, but its header is no table")
    header.pop("__metadata__", None)
    if not all(isinstance(entry, dict) and entry.keys() >= _ENTRIES for entry in header.values()):
        raise ValueError(f"each tensor in its header must have {', '.join(sorted(_ENTRIES))}")
    start, end, found = 8 + length, 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        if first != end or last < first:
            raise ValueError(f"{name} begins at {first}, where {end} was due")
        end = last
        found[name] = _stored(stream, name, path, start + first, last - first, entry)
    if start + end != size:
        raise ValueError(f"it has {size} bytes, and its header speaks of {start + end}")
    return found


def _stored(stream: Any, name: str, path: Path, start: int, size: int, entry: dict[str, Any]) -> StoredArray:
    kind, shape = entry["dtype"], tuple(entry["shape"])
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"{name} must not have the shape {shape}")
    if kind not in _TYPES:
        return refused(name, path, shape, f"it must be of a type that NumPy has, or BF16, not {kind}")
    dtype = np.dtype(_TYPES[kind])
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"{name} has {size} bytes, which {kind} of shape {shape} has not")
    read = raw(lambda: stream, start, shape, dtype)
    if kind == "BF16":
        return StoredArray(name, path, shape, np.float32, widened(read))
    return StoredArray(name, path, shape, dtype, read)
