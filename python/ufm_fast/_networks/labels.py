"""The rule for labels: which row of W a sample belongs to, and which samples are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._runtime.arguments import whole_number
from .._runtime.warnings import warn
from .arrays import as_array, as_integers


def as_ignored(ignore_index: Any) -> NDArray[np.int64]:
    """Check the labels, one or several, of samples to be left out."""
    if ignore_index is None:
        return np.zeros(0, dtype=np.int64)
    array = as_array(ignore_index, "ignore_index")
    if array.ndim == 0:
        return np.array([whole_number(ignore_index, "ignore_index", -(2**63), 2**63 - 1)])
    if array.ndim > 1:
        raise ValueError(f"ignore_index must be an int or several in one dimension, not of shape {array.shape}")
    return as_integers(array, "ignore_index").copy()


def as_classes(classes: ArrayLike, K: int | None, ignored: NDArray[np.int64]) -> NDArray[np.int64]:
    """Check the labels of the K classes, none of which is ignored; without K, of one class or more."""
    array = as_integers(classes, "classes").copy()
    if array.ndim != 1 or array.size != (K or max(1, array.size)):
        wanted = f"{K} ints, one for each row of W" if K else "a sequence of ints"
        raise ValueError(f"classes must be {wanted}, not of shape {array.shape}")
    if len(np.unique(array)) < len(array):
        raise ValueError("classes must be different from each other")
    both = np.intersect1d(array, ignored)
    if both.size:
        raise ValueError(f"ignore_index must not be among the classes, but {both[0]} is: which is meant?")
    return array


def default_classes(labels: NDArray[np.int64], K: int | None) -> NDArray[np.int64]:
    """Return the label of each class where nobody said it, knowing all labels.

    Without K they are the labels that occur, sorted. With K they are 0 to K - 1, or 1 to K if exactly these occur;
    anything else may be a class that was forgotten or a mark for samples without one, and will be refused.
    """
    found = np.unique(labels)
    if K is None:
        return found
    if np.array_equal(found, np.arange(1, K + 1)):
        warn(
            f"labels go from 1 to {K}: label k is taken to belong to row k - 1 of W; classes=range(1, {K + 1}) says so",
            RuntimeWarning,
        )
        return found
    return np.arange(K)


def as_labels(labels: ArrayLike, count: int, columns: int | None = None) -> NDArray[np.int64]:
    """Check labels: one-dimensional integers, as many as H has rows, and not as it has columns."""
    array = as_integers(labels, "labels")
    if array.shape != (count,):
        hint = f"H has {count} rows" + (": transpose it" if array.shape == (columns,) else "")
        if array.ndim > 1 and array.size == count:
            hint = "labels.reshape(-1) has it"
        raise ValueError(f"labels must have shape ({count},), not {array.shape}: {hint}")
    return array


def read_labels(
    labels: Any, count: int, ignored: NDArray[np.int64], columns: int | None = None
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
    """Check labels, of which some may be missing, and find which samples are to be kept.

    Returns
    -------
    kept : ndarray of bool, shape (count,), or None
        Which samples are not left out: neither masked, nor missing as pandas has it, nor ignored. None if all are kept.
    values : ndarray of int64, shape (count,)
        The labels, 0 where one is missing.
    """
    missing, present = _missing(labels)
    values = as_labels(present, count, columns)
    kept = ~np.isin(values, ignored)
    if missing is not None:
        kept &= ~missing
    return (None if kept.all() else kept), values


def _missing(labels: Any) -> tuple[NDArray[np.bool_] | None, Any]:
    """Return which labels are missing, None where none can be, and the labels with 0 in the place of these."""
    if isinstance(labels, np.ma.MaskedArray):
        missing, present = np.ma.getmaskarray(labels), np.array(np.ma.getdata(labels))
        present[missing] = 0
        return missing, present
    kind = getattr(getattr(labels, "dtype", None), "kind", "O")
    if hasattr(labels, "isna") and kind in "iu":  # a series, an index or an array of pandas
        return np.asarray(labels.isna()), labels.to_numpy(dtype=f"{kind}8", na_value=0)
    return None, labels


class LabelRule:
    """The row of W that each label belongs to, and the labels of samples that are left out.

    Parameters
    ----------
    classes : ndarray of int64, shape (K,)
        Row k of W belongs to label ``classes[k]``.
    ignored : ndarray of int64
        Samples with these labels are left out, even of a class.
    """

    def __init__(self, classes: NDArray[np.int64], ignored: NDArray[np.int64]) -> None:
        self.classes, self.ignored = classes, ignored
        self._order = np.argsort(classes, kind="stable")

    def rows(self, labels: Any, count: int, first: int = 0) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64]]:
        """Return which samples are kept (None for all), and the row of W that each of these belongs to.

        Parameters
        ----------
        labels : ints, masked or nullable ones among them, shape (count,)
        count : int
        first : int, optional
            The place of the first of these samples among all, from which errors number them.
        """
        kept, values = read_labels(labels, count, self.ignored)
        return kept, self.places(values, kept, first)

    def places(self, values: NDArray[np.int64], kept: NDArray[np.bool_] | None, first: int = 0) -> NDArray[np.int64]:
        """Return the row of W for each label that is kept."""
        counted = values if kept is None else values[kept]
        place = counted.clip(0, len(self.classes) - 1)
        if not np.array_equal(self.classes[place], counted):  # they are not their own places
            found = np.searchsorted(self.classes, counted, sorter=self._order)
            place = self._order[found.clip(max=len(self.classes) - 1)]
            strange = self.classes[place] != counted
            if strange.any():
                numbers = np.flatnonzero(strange) if kept is None else np.flatnonzero(kept)[strange]
                raise ValueError(self._refusal(counted[strange], first + int(numbers[0])))
        return np.ascontiguousarray(place)

    def _refusal(self, strange: NDArray[np.int64], first: int) -> str:
        """Say which labels belong to no class, and which sample is the first to have one."""
        K, values = len(self.classes), np.unique(strange)
        shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
        allowed = f"lie in [0, {K})" if np.array_equal(self.classes, np.arange(K)) else f"be among the {K} classes"
        others = {1: " has", 2: " and 1 other have"}.get(len(strange), f" and {len(strange) - 1} others have")
        marks = values[0] if len(values) == 1 else values.tolist()
        mark = f"ignore_index={marks} leaves them out, and " if len(values) <= 5 else ""
        return (
            f"labels must {allowed}, but sample {first}{others} {shown}: {mark}classes= gives the label that belongs "
            "to each row of W"
        )
