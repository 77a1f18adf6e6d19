"""Features, labels and classifiers as users hand them in: checked, and cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._runtime.arguments import whole_number
from .._runtime.warnings import warn

_BATCH_ROWS = 4096


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Convert to an array; masked ones, whose mask NumPy would drop without a word, are refused."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: fill its masked entries, or drop their samples")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be an array of numbers, but it cannot be read as one: {error}") from error


def _kind(values: Any, array: NDArray[Any]) -> str:
    """Name the type of ``values`` where NumPy saw no numbers in it, and of its entries otherwise."""
    return type(values).__name__ if array.dtype.kind == "O" and array.ndim == 0 else str(array.dtype)


def as_real(values: Any, name: str) -> NDArray[Any]:
    """Convert to an array of floats of at most 64 bits or of integers."""
    array = as_array(values, name)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be float32 or float64, not {_kind(values, array)}")
    return array


def as_integers(values: Any, name: str) -> NDArray[np.int64]:
    """Convert to an array of integers that fit 64 bits with a sign."""
    array = as_array(values, name)
    if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and array.size == 0):
        raise TypeError(f"{name} must be integers, not {_kind(values, array)}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be below 2^63, but there is {array.max()}")
    return array.astype(np.int64, copy=False)


def as_labels(labels: ArrayLike, rows: int) -> NDArray[np.int64]:
    """Check labels: one-dimensional integers, as many as ``rows`` says."""
    array = as_integers(labels, "labels")
    if array.shape != (rows,):
        hint = "labels.reshape(-1) has it" if array.ndim > 1 and array.size == rows else f"H has {rows} rows"
        raise ValueError(f"labels must have shape ({rows},), not {array.shape}: {hint}")
    return array


def as_ignore_index(ignore_index: Any) -> int | None:
    """Check the label of rows to be left out."""
    if ignore_index is None:
        return None
    return whole_number(ignore_index, "ignore_index", -(2**63), 2**63 - 1)


def as_classes(classes: ArrayLike | None, K: int) -> NDArray[np.int64]:
    """Check the labels of the K classes; by default 0 to K - 1."""
    if classes is None:
        return np.arange(K)
    array = as_integers(classes, "classes").copy()
    if array.shape != (K,):
        raise ValueError(f"classes must be {K} ints, one for each row of W, not of shape {array.shape}")
    if len(np.unique(array)) < K:
        raise ValueError("classes must be different from each other")
    return array


def classes_of(labels: NDArray[np.int64], K: int) -> NDArray[np.int64]:
    """Return the label of each class where nobody said it: 0 to K - 1, or 1 to K if these are the labels, all of them.

    Anything else may be a class that was forgotten or a mark for samples without one, and is refused.
    """
    found = np.unique(labels)
    if np.array_equal(found, np.arange(1, K + 1)):
        warn(
            f"labels go from 1 to {K}: label k is taken to belong to row k - 1 of W; classes=range(1, {K + 1}) says so",
            RuntimeWarning,
        )
        return found
    return np.arange(K)


def rows_of_classes(labels: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each label its place in ``classes``."""
    K = len(classes)
    place = labels.clip(0, K - 1)
    if not np.array_equal(classes[place], labels):  # they are not their own places
        order = np.argsort(classes, kind="stable")
        place = order[np.searchsorted(classes, labels, sorter=order).clip(max=K - 1)]
        strange = labels[classes[place] != labels]
        if strange.size:
            raise ValueError(_strange_labels(strange, classes))
    return np.ascontiguousarray(place)


def _strange_labels(strange: NDArray[np.int64], classes: NDArray[np.int64]) -> str:
    K = len(classes)
    values = np.unique(strange)
    shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
    allowed = f"lie in [0, {K})" if np.array_equal(classes, np.arange(K)) else f"be among the {K} classes"
    samples = "sample has" if len(strange) == 1 else "samples have"
    mark = f"ignore_index={values[0]} leaves them out, and " if len(values) == 1 else ""
    return (
        f"labels must {allowed}, but {len(strange)} {samples} {shown}: {mark}classes= gives the label that belongs to "
        "each row of W"
    )


def precision_of(W: ArrayLike) -> float:
    """Return twice the relative rounding of the numbers that W came in; integers are exact."""
    dtype = as_array(W, "W").dtype
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


def as_features(H: ArrayLike, d: int) -> NDArray[np.float64] | NDArray[np.float32]:
    """Return H as a C-contiguous float32 or float64 array of shape (rows, d), copied only if it is none."""
    array = as_real(H, "H")
    _check_shape(array.shape, d)
    single = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    return np.require(array, np.float32 if single else np.float64, ["C", "A"])


def _check_shape(shape: tuple[int, ...], d: int) -> None:
    if len(shape) != 2 or shape[1] != d:
        hint = ": transpose it" if len(shape) == 2 and shape[0] == d else ""
        raise ValueError(f"H must have shape (rows, {d}), not {shape}{hint}")


def as_classifier(
    W: ArrayLike, b: ArrayLike | None, K: int | None = None, d: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return W and b (zeros for None) in float64, of shapes (K, d) and (K,), checked."""
    classifier = as_real(W, "W").astype(np.float64, order="C")
    if classifier.ndim != 2 or (K is not None and classifier.shape != (K, d)):
        hint = ": transpose it" if classifier.shape == (d, K) else ""
        raise ValueError(f"W must have shape ({K or 'K'}, {d or 'd'}), not {classifier.shape}{hint}")
    if len(classifier) < 2:
        raise ValueError(f"W must have at least two rows, not {len(classifier)}")
    if classifier.shape[1] < 1:
        raise ValueError("W must have at least one column, not 0")
    bias = np.zeros(len(classifier)) if b is None else as_real(b, "b").astype(np.float64)
    if bias.shape != (len(classifier),):
        hint = ", whose rows are classes: transpose it" if bias.shape == classifier.shape[1:] else ""
        raise ValueError(f"b must have shape ({len(classifier)},), not {bias.shape}, for this W{hint}")
    for name, array in (("W", classifier), ("b", bias)):
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, but holds a NaN or an infinity")
        with np.errstate(over="ignore"):
            if not np.isfinite((array**2).sum()):
                raise ValueError(f"{name} must be smaller: the squares of its entries overflow")
    return classifier, bias


class Samples:
    """Labelled features, checked before any is read, and read in batches without the samples to be left out.

    Parameters
    ----------
    H : array of shape (N, d), or what has this shape and gives arrays when sliced
    labels : ints, shape (N,)
    K, d : int
        The shape of W.
    classes : K ints, optional
        The labels of the rows of W.
    ignore_index : int, optional
        The label of samples to be left out.

    Attributes
    ----------
    classes : ndarray of int64, shape (K,)
    rows : ndarray of int64
        The row of W that each remaining sample's label belongs to.
    """

    def __init__(
        self, H: Any, labels: ArrayLike, K: int, d: int, *, classes: ArrayLike | None, ignore_index: int | None
    ) -> None:
        self._H = H if hasattr(H, "shape") and not isinstance(H, np.ma.MaskedArray) else as_real(H, "H")
        self._d = d
        _check_shape(tuple(self._H.shape), d)
        self._N = int(self._H.shape[0])
        all_labels = as_labels(labels, self._N)
        ignore_index = as_ignore_index(ignore_index)
        self._kept = None if ignore_index is None else all_labels != ignore_index
        kept = all_labels if self._kept is None else all_labels[self._kept]
        if not kept.size:
            raise ValueError(
                f"H must hold samples, but has {self._N} rows"
                + ("" if ignore_index is None else f", none of a label other than ignore_index={ignore_index}")
            )
        self.classes = classes_of(kept, K) if classes is None else as_classes(classes, K)
        self.rows = rows_of_classes(kept, self.classes)

    def slices(self) -> Iterator[slice]:
        """Cut the rows of H into batches."""
        return (slice(first, min(first + _BATCH_ROWS, self._N)) for first in range(0, self._N, _BATCH_ROWS))

    def batches(self) -> Iterator[tuple[NDArray[Any], NDArray[np.int64]]]:
        """Read features, and the rows of W that their labels belong to."""
        end = 0
        for chosen in self.slices():
            features = as_features(self._H[chosen], self._d)
            if len(features) != chosen.stop - chosen.start:
                raise ValueError(f"H[{chosen.start}:{chosen.stop}] must have as many rows, not {len(features)}")
            if self._kept is not None:
                features = features[self._kept[chosen]]
            first, end = end, end + len(features)
            yield features, self.rows[first:end]
