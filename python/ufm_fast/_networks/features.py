"""Features, labels and classifiers as users hand them in: checked, and cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import as_real, as_single
from .labels import LabelRule, as_classes, as_ignored, default_classes, read_labels

_BATCH_ROWS = 2048
_BATCH_NUMBERS = 2**24  # fewer rows where these are more


def as_features(H: ArrayLike, d: int) -> NDArray[np.float64] | NDArray[np.float32]:
    """Return H as a C-contiguous float32 or float64 array of shape (rows, d), copied only if it is none."""
    array = as_real(H, "H")
    _check_shape(array.shape, d)
    if array.dtype.kind == "f" and array.dtype.itemsize == 2:
        return as_single(array)
    single = array.dtype.kind == "f" and array.dtype.itemsize == 4
    return np.require(array, np.float32 if single else np.float64, ["C", "A"])


def _check_shape(shape: tuple[int, ...], d: int | None, K: int | None = None) -> None:
    if len(shape) != 2 or shape[1] != (d or max(1, shape[1])):
        hint = ""
        if len(shape) == 2 and shape[0] == d:
            hint = ": transpose it"
        elif len(shape) == 2 and shape[1] == K:
            hint = f": transpose W, which has shape ({K}, {d})"
        raise ValueError(f"H must have shape (rows, {d or 'd'}), not {shape}{hint}")


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


def refuse_infinite(features: NDArray[Any], places: Sequence[int] | NDArray[np.int64]) -> None:
    """Raise an error if a feature holds a NaN or an infinity; it names the first such by its place among all."""
    bad = np.flatnonzero(~np.isfinite(features))
    if bad.size:
        row, column = divmod(int(bad[0]), features.shape[1])
        raise ValueError(f"H must be finite, but row {places[row]} holds {features[row, column]}")


class Features:
    """Features that are read a batch at a time, as float32 or float64.

    Parameters
    ----------
    H : array of shape (N, d), or what has this shape and gives arrays when sliced
    d : int or None
        None for any.
    K : int, optional
        Rows of a matrix of d columns, which may have been given transposed.

    Attributes
    ----------
    N, d : int
    """

    def __init__(self, H: Any, d: int | None, K: int | None = None) -> None:
        has_shape = getattr(H, "shape", None) is not None and hasattr(H, "__getitem__")
        sliced = has_shape and not isinstance(H, np.ma.MaskedArray)
        array = H if sliced else as_real(H, "H")
        self._rows = getattr(array, "iloc", array)  # a frame of pandas may itself slice labels of rows
        shape = tuple(array.shape)
        _check_shape(shape, d, K)
        self.N, self.d = (int(size) for size in shape)
        if self.N < 1:
            raise ValueError("H must hold samples, but has 0 rows")

    def slices(self) -> Iterator[slice]:
        """Cut the rows of H into batches."""
        step = max(1, min(_BATCH_ROWS, _BATCH_NUMBERS // self.d))
        return (slice(first, min(first + step, self.N)) for first in range(0, self.N, step))

    def read(self) -> Iterator[tuple[slice, NDArray[np.float64] | NDArray[np.float32]]]:
        """Read the features, and which rows these are."""
        for chosen in self.slices():
            features = as_features(self._rows[chosen], self.d)
            if len(features) != chosen.stop - chosen.start:
                raise ValueError(f"H[{chosen.start}:{chosen.stop}] must have as many rows, not {len(features)}")
            yield chosen, features


class Batch(NamedTuple):
    """Samples that follow each other: features and labels as given, and what is kept of them.

    Attributes
    ----------
    features : ndarray of float32 or float64, shape (rows, d)
    labels : ndarray or masked array of int64, shape (rows,)
        Masked where a sample is left out.
    kept : ndarray of bool, shape (rows,), or None
        Which samples are not left out; None for all.
    rows : ndarray of int64
        The row of W that each sample's label belongs to, of those that are kept.
    """

    features: NDArray[Any]
    labels: NDArray[np.int64]
    kept: NDArray[np.bool_] | None
    rows: NDArray[np.int64]

    @property
    def counted(self) -> NDArray[Any]:
        """The features that are kept."""
        return self.features if self.kept is None else self.features[self.kept]


class Samples(Features):
    """Labelled features, checked before any is read, and read in batches.

    Parameters
    ----------
    H : array of shape (N, d), or what has this shape and gives arrays when sliced
    labels : ints, shape (N,)
    K, d : int or None
        The shape of W; None without W: the classes are then the labels that occur.
    classes : K ints, optional
        The labels of the rows of W.
    ignore_index : int or several, optional
        The labels of samples to be left out.

    Attributes
    ----------
    N, d : int
    classes : ndarray of int64, shape (K,)
    rows : ndarray of int64
        The row of W that each label belongs to, of the samples that are kept.
    """

    def __init__(
        self, H: Any, labels: Any, K: int | None, d: int | None, *, classes: ArrayLike | None, ignore_index: Any
    ) -> None:
        super().__init__(H, d, K)
        ignored = as_ignored(ignore_index)
        chosen = None if classes is None else as_classes(classes, K, ignored)
        self._kept, values = read_labels(labels, self.N, ignored, columns=self.d if d is None else None)
        counted = values if self._kept is None else values[self._kept]
        if not counted.size:
            raise ValueError(f"H must hold samples, but all {self.N} are left out: their labels are ignored or missing")
        self._labels = values if self._kept is None else np.ma.masked_array(values, ~self._kept)
        self.classes = default_classes(counted, K) if chosen is None else chosen
        self.rows = LabelRule(self.classes, ignored).places(values, self._kept)

    def batches(self) -> Iterator[Batch]:
        """Read the samples, a batch at a time."""
        end = 0
        for chosen, features in self.read():
            kept = None if self._kept is None else self._kept[chosen]
            first, end = end, end + (len(features) if kept is None else int(np.count_nonzero(kept)))
            yield Batch(features, self._labels[chosen], kept, self.rows[first:end])


class Readings:
    """The batches of samples, to be gone through several times, with reports on how far that is."""

    def __init__(self, samples: Samples, times: int, progress: Callable[[int, int], object] | None) -> None:
        self._samples, self._progress = samples, progress
        self._done, self._total = 0, times * sum(1 for _ in samples.slices())

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._samples.batches():
            yield batch
            self._done += 1
            if self._progress is not None:
                self._progress(self._done, self._total)
