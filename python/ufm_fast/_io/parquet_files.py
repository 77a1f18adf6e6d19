"""Columns of ``.parquet`` files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stored import StoredArray, joined, refused

_BATCH_ROWS, _BUFFER = 4096, 1 << 20


def parquet_arrays(path: Path, files: ExitStack) -> dict[str, StoredArray]:
    """Open the columns of numbers, of shape (N,), and of lists of numbers as many in each row, of shape (N, d).

    Pages that were written with a checksum are verified.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    options = {"buffer_size": _BUFFER, "pre_buffer": False}  # else whole groups of rows
    file = files.enter_context(ParquetFile(path, **options, page_checksum_verification=True))
    known = file.metadata
    rows = sum(known.row_group(group).num_rows for group in range(known.num_row_groups))
    if rows != known.num_rows:
        raise ValueError(f"it says that it has {known.num_rows} rows, and {rows} in its groups")
    return {field.name: _column(file, field, path, pa) for field in file.schema_arrow}


def _column(file: Any, field: Any, path: Path, pa: Any) -> StoredArray:
    kind, types = field.type, pa.types
    shape: tuple[int, ...] = (file.metadata.num_rows,)
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    entries = kind.value_type if is_list else kind
    if not (types.is_integer(entries) or types.is_floating(entries)):
        return refused(field.name, path, shape, f"it must be a column of numbers or of lists of them, not {kind}")
    if is_list:
        shape += (_first_length(file, field.name),)
    dtype = pa.array([], entries).to_numpy().dtype
    return StoredArray(field.name, path, shape, dtype, _Column(file, field.name, shape, dtype))


def _first_length(file: Any, name: str) -> int:
    for batch in file.iter_batches(batch_size=1, columns=[name]):
        return len(batch.column(0)[0].values or ())
    return 0


class _Column:
    """Reads the rows of a column, a batch after the other; what does not follow is read from the start of its group."""

    def __init__(self, file: Any, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self._file, self._name, self._shape = file, name, shape
        groups = range(file.metadata.num_row_groups)
        self._starts = np.cumsum([0, *(file.metadata.row_group(group).num_rows for group in groups)])
        self._none = np.empty((0, *shape[1:]), dtype)
        self._left, self._next = self._none, 0
        self._batches = self._from_group(0)

    def __call__(self, first: int, last: int) -> NDArray[Any]:
        if last > first and first != self._next:
            group = int(np.searchsorted(self._starts, first, "right")) - 1
            self._left, self._next, self._batches = self._none, int(self._starts[group]), self._from_group(group)
            while self._next < first:
                self._take(first)
        parts = [self._none]
        while first < last and self._next < last:
            parts.append(self._take(last))
        return joined(parts)

    def _from_group(self, group: int) -> Iterator[Any]:
        groups = range(group, len(self._starts) - 1)
        batches: Iterator[Any] = self._file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=[self._name])
        return batches

    def _take(self, last: int) -> NDArray[Any]:
        if not len(self._left):
            batch = next(self._batches, None)
            if batch is None or not len(batch):
                raise ValueError(f"it ends at row {self._next}")
            self._left = self._converted(batch.column(0))
        taken, self._left = np.split(self._left, [last - self._next])
        self._next += len(taken)
        return taken

    def _converted(self, column: Any) -> NDArray[Any]:
        rows = len(column)
        if len(self._shape) == 2:
            entries = column.flatten()
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            if column.null_count or entries.null_count or (lengths != self._shape[1]).any():
                raise ValueError(f"each row must have {self._shape[1]} numbers")
            return np.asarray(entries.to_numpy(zero_copy_only=False)).reshape(rows, self._shape[1])
        if not column.null_count:
            return np.asarray(column.to_numpy(zero_copy_only=False))
        absent = column.is_null().to_numpy(zero_copy_only=False)
        return np.ma.MaskedArray(column.fill_null(0).to_numpy(zero_copy_only=False), absent)
