"""Datasets in HDF5 files, those of MATLAB among them."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .stored import NUMBERS, Read, StoredArray, refused


def hdf5_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the datasets of all groups, named like ``group/dataset``."""
    return _datasets(path, files, _by_rows)


def matlab_hdf5_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the variables of a ``.mat`` file of version 7.3, whose datasets are transposes."""
    return _datasets(path, files, _by_columns)


def _datasets(path: Path, files: ExitStack, open_dataset: Any) -> dict[str, StoredArray]:
    import h5py

    found: dict[str, StoredArray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("#"):  # MATLAB's own tables
            found[name] = open_dataset(item, name, path)

    files.enter_context(h5py.File(path, "r")).visititems(visit)
    return found


def _by_rows(dataset: Any, name: str, path: Path) -> StoredArray:
    if dataset.shape is None:
        return refused(name, path, (), "it is empty")
    _check_size(dataset, name)
    return StoredArray(name, path, dataset.shape, dataset.dtype, lambda first, last: dataset[first:last])


def _by_columns(dataset: Any, name: str, path: Path) -> StoredArray:
    kind = dataset.attrs.get("MATLAB_class", b"double")
    if kind in (b"char", b"cell", b"struct", b"function_handle") or "MATLAB_empty" in dataset.attrs:
        return refused(name, path, (), f"it must be a full array of numbers, not {kind.decode()}")
    _check_size(dataset, name)
    read: Read = lambda first, last: dataset[..., first:last].T  # noqa: E731
    return StoredArray(name, path, dataset.shape[::-1], dataset.dtype, read)


def _check_size(dataset: Any, name: str) -> None:
    """Refuse a shape that is not that of the numbers stored: what was never written would be read as zeros."""
    if dataset.dtype.kind not in NUMBERS or dataset.is_virtual:
        return
    if dataset.chunks is None:
        there, due, what = dataset.id.get_storage_size(), dataset.nbytes, "bytes"
    else:
        there, what = dataset.id.get_num_chunks(), "chunks"
        due = math.prod(-(-length // size) for length, size in zip(dataset.shape, dataset.chunks, strict=True))
    if there != due:
        raise ValueError(f"{name} has {there} {what}, where {dataset.shape} of {dataset.dtype} needs {due}")
