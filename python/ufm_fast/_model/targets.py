"""Targets of rows: from what users give to the three forms that the compiled core takes; and which are equal."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from .._runtime import arguments as check
from .._runtime.arrays import Array

#: Labels (M,), int64; or numbers (M, K); or these in compressed rows, (starts, columns, entries).
Targets: TypeAlias = "NDArray[Any] | tuple[NDArray[np.int64], NDArray[np.int64], Array]"


def checked_targets(targets: Any, K: int) -> Targets:
    """Return targets over K logits in one of the three forms, or raise an error that names the first bad row.

    Sparse matrices of any format become compressed rows without zeros, columns ascending, duplicates added up.
    """
    if scipy.sparse.issparse(targets):
        return _compressed(targets, K)
    check.refuse_masked(targets, "targets")
    array = np.asarray(targets)
    if array.ndim == 1 and array.dtype.kind in "iu":
        return _labels(array, K)
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise TypeError(
            f"targets must be (M,) labels of an integer type, or (M, {K}) numbers, dense or scipy.sparse, not an array "
            f"of shape {array.shape} and dtype {array.dtype}"
        )
    _check_shape(array.shape, K)
    numbers = np.array(array, dtype=np.float64, order="C")
    finite = np.isfinite(numbers).all(axis=1)
    if not finite.all():
        raise ValueError(f"targets must be finite, but row {finite.argmin()} holds a NaN or an infinity")
    numbers.flags.writeable = False
    return numbers


def _labels(array: NDArray[Any], K: int) -> NDArray[np.int64]:
    if array.size == 0:
        raise ValueError("targets must have at least one row")
    wrong = (array < 0) | (array >= K)
    if wrong.any():
        row = wrong.argmax()
        raise ValueError(f"targets must lie in [0, {K}) where they are labels, but that of row {row} is {array[row]}")
    labels = array.astype(np.int64)
    labels.flags.writeable = False
    return labels


def _compressed(targets: Any, K: int) -> Targets:
    _check_shape(targets.shape, K)
    if targets.dtype.kind not in "biuf":
        raise TypeError(f"targets must hold real numbers, not values of dtype {targets.dtype}")
    matrix = scipy.sparse.csr_array(targets, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    finite = np.isfinite(matrix.data)
    if not finite.all():
        row = np.searchsorted(matrix.indptr, finite.argmin(), side="right") - 1
        raise ValueError(f"targets must be finite, but row {row} holds a NaN or an infinity")
    matrix.eliminate_zeros()
    parts = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data
    for part in parts:
        part.flags.writeable = False
    return parts


def _check_shape(shape: tuple[int, ...], K: int) -> None:
    if len(shape) != 2 or shape[1] != K or shape[0] == 0:
        hint = " (transpose them)" if len(shape) == 2 and shape[0] == K else ""
        raise ValueError(f"targets must have a row each and K = {K} columns, not shape {shape}{hint}")


def largest_of_rows(starts: NDArray[np.int64], columns: NDArray[np.int64], entries: Array, K: int) -> NDArray[np.int64]:
    """Return the column, of K, of the largest number of each compressed row, the first on ties; no zero is stored."""
    M = len(starts) - 1
    row = np.repeat(np.arange(M), np.diff(starts))
    largest = np.full(M, -1, dtype=np.int64)
    positive = np.flatnonzero(entries > 0)
    order = positive[np.lexsort((columns[positive], -entries[positive], row[positive]))]
    rows, first = np.unique(row[order], return_index=True)
    largest[rows] = columns[order[first]]
    for i in np.flatnonzero(largest < 0):  # zero is the largest: the first column that is not stored
        stored = columns[starts[i] : starts[i + 1]]
        gaps = np.flatnonzero(stored != np.arange(len(stored)))
        if len(stored) == K:
            largest[i] = entries[starts[i] : starts[i + 1]].argmax()
        else:
            largest[i] = gaps[0] if len(gaps) else len(stored)
    return largest


def take_rows(targets: Targets, rows: NDArray[Any] | slice) -> Targets:
    """Return some of the rows."""
    if not isinstance(targets, tuple):
        taken: NDArray[Any] = targets[rows]
        return taken
    starts, columns, entries = targets
    lengths = np.diff(starts)[rows]
    ends = np.concatenate([[0], np.cumsum(lengths)])
    places = np.repeat(starts[rows] - ends[:-1], lengths) + np.arange(ends[-1])
    return ends, columns[places], entries[places]


def numbers_of_equal(targets: Targets) -> NDArray[np.int64]:
    """Return a number for each row, (M,), the same for equal targets and no others.

    Rows are sorted by a hash of their bits and compared in full with the first one of that hash.
    """
    if not isinstance(targets, tuple):
        if targets.ndim == 1:
            return targets
        targets = _compressed(scipy.sparse.csr_array(targets), targets.shape[1])
    starts, columns, entries = targets
    for seed in range(8):
        keys = _hashes(starts, columns, entries, seed)
        _, first, number = np.unique(keys, return_index=True, return_inverse=True)
        same = take_rows(targets, first[number])
        if all(np.array_equal(a, b) for a, b in zip(same, targets, strict=True)):
            return np.asarray(number, dtype=np.int64)
    raise ArithmeticError("eight hashes each took different rows for equal: please report the targets")


def _hashes(starts: NDArray[np.int64], columns: NDArray[np.int64], entries: Array, seed: int) -> NDArray[np.uint64]:
    """Add up, for each row, the bits of its entries times random odd numbers of their columns."""
    generator = np.random.default_rng(seed)
    factors = 2 * generator.integers(0, 2**63, int(columns.max(initial=0)) + 1, dtype=np.uint64) + 1
    products = entries.view(np.uint64) * factors[columns]
    products ^= products >> np.uint64(32)
    products *= factors[columns]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(products, dtype=np.uint64)])
    hashes: NDArray[np.uint64] = sums[starts[1:]] - sums[starts[:-1]]
    return hashes
