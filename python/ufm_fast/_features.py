"""Features, labels and classifiers as users hand them in: checked, and cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_BATCH_ROWS = 4096


def row_slices(rows: int) -> Iterator[slice]:
    """Cut rows into batches."""
    return (slice(first, min(first + _BATCH_ROWS, rows)) for first in range(0, rows, _BATCH_ROWS))


def classes_of(labels: ArrayLike, K: int, classes: ArrayLike | None) -> NDArray[np.int64]:
    """Return the label of each class as `nc_metrics` understands ``classes``."""
    if classes is not None:
        return np.asarray(classes)
    found = np.unique(as_labels(labels, None))
    inside = found.size == 0 or (found[0] >= 0 and found[-1] < K)
    if not inside and len(found) != K:
        raise ValueError(
            f"labels must lie in [0, {K}) or be {K} different ones, not {len(found)} from {found[0]} to {found[-1]}"
        )
    return np.arange(K) if inside else found


def as_labels(labels: ArrayLike, rows: int | None) -> NDArray[np.int64]:
    """Check labels: one-dimensional integers, as many as ``rows`` says."""
    array = np.asarray(labels)
    if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and array.size == 0):
        raise TypeError(f"labels must be integers, not {array.dtype}")
    if array.ndim != 1 or (rows is not None and len(array) != rows):
        raise ValueError(f"labels must have shape ({'N' if rows is None else rows},), not {array.shape}")
    return array.astype(np.int64, copy=False)


def rows_of_classes(labels: ArrayLike, classes: NDArray[Any], rows: int) -> NDArray[np.int64]:
    """Return for each label its place in ``classes``."""
    array = as_labels(labels, rows)
    place = array.clip(0, len(classes) - 1)
    if not np.array_equal(classes[place], array):  # they are not their own places
        order = np.argsort(classes, kind="stable")
        place = order[np.searchsorted(classes, array, sorter=order).clip(max=len(classes) - 1)]
        strange = classes[place] != array
        if strange.any():
            raise ValueError(f"labels must be among the {len(classes)} classes, but there is {array[strange][0]}")
    return np.ascontiguousarray(place)


def as_features(H: ArrayLike, d: int) -> NDArray[np.float64] | NDArray[np.float32]:
    """Return H as a C-contiguous float32 or float64 array of shape (rows, d), copied only if it is none."""
    array = np.asarray(H)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise TypeError(f"H must be float32 or float64, not {array.dtype}")
    if array.ndim != 2 or array.shape[1] != d:
        raise ValueError(f"H must have shape (rows, {d}), not {array.shape}")
    single = array.dtype in (np.float16, np.float32)
    return np.require(array, np.float32 if single else np.float64, ["C", "A"])


def as_classifier(
    W: ArrayLike, b: ArrayLike | None, K: int | None, d: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return W and b (zeros for None) in float64, of shapes (K, d) and (K,), checked."""
    classifier = np.array(W, dtype=np.float64, order="C")
    if classifier.ndim != 2 or (K is not None and classifier.shape != (K, d)):
        raise ValueError(f"W must have shape ({K or 'K'}, {d or 'd'}), not {classifier.shape}")
    if len(classifier) < 2:
        raise ValueError(f"W must have at least two rows, not {len(classifier)}")
    bias = np.zeros(len(classifier)) if b is None else np.array(b, dtype=np.float64)
    if bias.shape != (len(classifier),):
        raise ValueError(f"b must have shape ({len(classifier)},), not {bias.shape}")
    for name, array in (("W", classifier), ("b", bias)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, but holds a NaN or an infinity")
    return classifier, bias
