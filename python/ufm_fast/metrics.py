"""Neural-collapse metrics of features and a classifier: in one call, or from streamed batches."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core, _geometry
from ._arguments import addressable, choice, whole_number
from ._blas import single_threaded_blas
from ._features import as_classifier, as_features, as_labels, classes_of, row_slices, rows_of_classes
from ._nc_metrics import NCMetrics
from ._threads import checked_threads, get_num_threads

if TYPE_CHECKING:
    from typing import TypeAlias

Array: TypeAlias = "NDArray[np.float64]"


class NCAccumulator:
    """Statistics of labelled features, gathered batch by batch, from which `NCMetrics` follow.

    Features may be float32 or float64. They are shifted by a reference near their class's mean and summed in float64,
    so that within-class noise far below the size of the features survives; float32 products are taken 4096 rows at a
    time, which leaves a relative error of about 1e-7 in S_W, the class means having that of float64. Pass float64
    features for more.

    Parameters
    ----------
    K, d : int
        Number of classes and feature dimension, positive.
    classes : K ints, optional
        The label of each class, different from each other: row k of W belongs to ``classes[k]``. By default k.
    threads : int, optional
        None follows `set_num_threads`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Notes
    -----
    Memory: ``d^2 + 2 K d`` float64 numbers and, while updating, ``4096 d + d^2`` of the batch's type, or 512^2 for each
    thread where ``d^2`` is less, however many samples. Cost: that of the product ``H.T @ H`` and a pass over H. One
    accumulator may be used by several threads: they take turns.
    """

    def __init__(self, K: int, d: int, *, classes: ArrayLike | None = None, threads: int | None = None) -> None:
        self.K, self.d = whole_number(K, "K", 1), whole_number(d, "d", 1)
        addressable(max(self.K, self.d) * self.d, np.float64, f"K = {self.K} and d = {self.d}")
        self._statistics = _core.ClassStatistics(self.K, self.d)
        self.threads = None if threads is None else checked_threads(threads, "threads")
        self.classes = np.arange(self.K) if classes is None else np.array(classes)
        if self.classes.dtype.kind not in "iu" or self.classes.shape != (self.K,):
            raise ValueError(f"classes must be {self.K} ints, not {self.classes.dtype} of shape {self.classes.shape}")
        if len(np.unique(self.classes)) < self.K:
            raise ValueError("classes must be different from each other")
        self._eps = 0.0
        self._lock = threading.Lock()

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples seen of each class, (K,)."""
        with self._lock:
            return self._statistics.counts()

    def update(self, H: ArrayLike, labels: ArrayLike) -> NCAccumulator:
        """Add a batch.

        Parameters
        ----------
        H : array of float32 or float64, shape (batch, d)
            Integers and float16 are converted.
        labels : ints, shape (batch,)

        Returns
        -------
        NCAccumulator
            Itself.

        Raises
        ------
        TypeError, ValueError
            If shapes or types do not fit, a label is none of `classes`, or H is not finite. After features that are not
            finite, or an interrupt (Ctrl-C), the accumulator is of no use any more, and says so.
        """
        features = as_features(H, self.d)
        rows = rows_of_classes(labels, self.classes, len(features))
        with self._lock, single_threaded_blas():
            self._statistics.update(features, rows, self.threads or get_num_threads())
            self._eps = max(self._eps, float(np.finfo(features.dtype).eps))
        return self

    def merge(self, other: NCAccumulator) -> NCAccumulator:
        """Add what another accumulator of the same K, d and classes has seen, and return itself.

        Raises
        ------
        ValueError
            If the two do not fit, or are the same.
        """
        if not np.array_equal(self.classes, other.classes):
            raise ValueError("other must have the same classes")
        first, second = sorted((self, other), key=id)
        if first is second:
            raise ValueError("other must be another accumulator")
        with first._lock, second._lock, single_threaded_blas():
            self._statistics.merge(other._statistics, self.threads or get_num_threads())
            self._eps = max(self._eps, other._eps)
        return self

    def result(
        self,
        W: ArrayLike,
        b: ArrayLike | None = None,
        *,
        batches: Iterable[ArrayLike] | None = None,
        centre: Literal["samples", "classes"] = "samples",
    ) -> NCMetrics:
        """Compute the metrics.

        Parameters
        ----------
        W : array, shape (K, d)
        b : array, shape (K,), optional
            No bias by default.
        batches : iterable of arrays (batch, d), optional
            The features once more, in any order: NC4 needs the class means before it can look at a sample. Without them
            `NCMetrics.nc4_agreement` is NaN.
        centre : {"samples", "classes"}, optional
            The global mean: over samples, as in the papers' code, or over class means.

        Returns
        -------
        NCMetrics

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit or is not finite.

        Warns
        -----
        RuntimeWarning
            If a metric is undefined, naming the classes that are the reason.

        Notes
        -----
        Cost: a singular value decomposition of K x d, eigenvalues of d x d, six products K x d x K (tile by tile), and
        two products K x d x N for NC4.
        """
        choice(centre, "centre", ("samples", "classes"))
        classifier, bias = as_classifier(W, b, self.K, self.d)
        eps_W = np.finfo(np.asarray(W).dtype).eps if np.asarray(W).dtype.kind == "f" else np.finfo(float).eps
        with self._lock, single_threaded_blas():
            counts = self._statistics.counts()
            means, squares, scatter = self._statistics.read(self.threads or get_num_threads())
            eps = self._eps
        N = int(counts.sum())
        if N == 0:
            raise ValueError("there are no samples yet")
        with np.errstate(invalid="ignore", divide="ignore"):
            variances = squares / counts
        empty = counts == 0
        if empty.any():
            _warn(f"class means, and all metrics of them, are undefined: no samples of {self._names(empty)}")
            means = np.where(empty[:, None], np.nan, means)
        single = counts == 1
        if single.any():
            _warn(f"within-class variation of {self._names(single)} cannot be measured: one sample")
        weights = counts / N if centre == "samples" else np.full(self.K, 1 / self.K)
        global_mean = weights @ np.where(empty[:, None], 0.0, means) if centre == "samples" else means.mean(axis=0)
        centred = means - global_mean
        within = scatter / N
        complete = not empty.any()
        geometry = _geometry.Between.of(centred, means, eps) if complete else _geometry.Between.undefined(self.d)
        if complete and geometry.rank == 0:
            _warn("class means coincide: metrics of their differences are undefined")
            centred = np.zeros_like(centred)
        measured = bool((counts > 1).any())
        mean_square = float(np.trace(within)) + float(counts @ np.nan_to_num((means**2).sum(axis=1))) / N
        values_W = np.asarray(np.linalg.svd(classifier, compute_uv=False), dtype=np.float64)
        W_centred = classifier - classifier.mean(axis=0)
        angles = {
            name: _geometry.angles(rows)
            for name, rows in (("W", classifier), ("W_centred", W_centred), ("means", centred))
        }
        nc4 = np.nan
        if batches is not None and complete and geometry.rank > 0:
            nc4 = _agreement((as_features(batch, self.d) for batch in batches), classifier, bias, means, global_mean)
        return NCMetrics(
            K=self.K,
            d=self.d,
            N=N,
            counts=counts,
            centre=centre,
            nc1=geometry.whitened_trace(within) / self.K if measured else np.nan,
            nc1_trace_ratio=_ratio(float(np.trace(within)), geometry.trace) if measured else np.nan,
            cdnv=_geometry.class_distance_variance(means, np.where(single, np.nan, variances)),
            nc2_W=_geometry.distance_to_etf(classifier, classifier),
            nc2_W_centred=_geometry.distance_to_etf(W_centred, W_centred),
            nc2_means=_geometry.distance_to_etf(centred, centred),
            nc2_means_uncentred=_geometry.distance_to_etf(means, means),
            **{f"equinorm_{name}": _geometry.norm_spread(rows) for name, rows in
               (("W", classifier), ("W_centred", W_centred), ("means", centred))},
            **{f"cosine_mean_{name}": value.mean for name, value in angles.items()},
            **{f"cosine_std_{name}": value.std for name, value in angles.items()},
            **{f"equiangularity_{name}": value.from_etf for name, value in angles.items()},
            nc3_product=_geometry.distance_to_etf(classifier, centred),
            nc3_product_centred=_geometry.distance_to_etf(W_centred, centred),
            nc3_duality=_geometry.duality(classifier, centred),
            nc3_duality_centred=_geometry.duality(W_centred, centred),
            nc4_agreement=nc4,
            bias_term=float(np.linalg.norm(bias + classifier @ global_mean)),
            norm_ratio=_ratio(float((classifier**2).sum()) / self.K, mean_square),
            rank_W=int((values_W > max(self.K, self.d) * eps_W * np.linalg.norm(classifier)).sum()),
            rank_means=geometry.rank,
            singular_values_W=values_W,
            singular_values_means=geometry.singular_values,
            spectrum_within=np.linalg.eigvalsh(within)[::-1].clip(min=0),
            spectrum_between=geometry.spectrum,
            global_mean=global_mean,
            class_means=means,
            class_variances=variances,
        )  # fmt: skip

    def _names(self, chosen: NDArray[np.bool_]) -> str:
        labels = self.classes[chosen]
        shown = ", ".join(map(str, labels[:10]))
        return f"class{'es' if len(labels) > 1 else ''} {shown}{', ...' if len(labels) > 10 else ''}"


def nc_metrics(
    W: ArrayLike,
    H: Any,
    labels: ArrayLike,
    b: ArrayLike | None = None,
    *,
    classes: ArrayLike | None = None,
    centre: Literal["samples", "classes"] = "samples",
    threads: int | None = None,
) -> NCMetrics:
    """Compute neural-collapse metrics of a classifier and features.

    Parameters
    ----------
    W : array, shape (K, d)
        Classifier, a row a class.
    H : array of float32 or float64, shape (N, d)
        Features, a row a sample; a memory-mapped array, or anything with a shape that gives arrays when sliced, is read
        4096 rows at a time, twice.
    labels : ints, shape (N,)
    b : array, shape (K,), optional
        No bias by default.
    classes : K ints, optional
        Row k of W belongs to ``classes[k]``. By default to k or, if the labels are K different numbers not all in
        [0, K), to the k-th smallest of them.
    centre : {"samples", "classes"}, optional
        As in `NCAccumulator.result`.
    threads : int, optional
        None follows `set_num_threads`.

    Returns
    -------
    NCMetrics

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, a label belongs to no class, or an entry is not finite.

    Warns
    -----
    RuntimeWarning
        If a metric is undefined.
    """
    K, d = as_classifier(W, b, None, None)[0].shape
    accumulator = NCAccumulator(K, d, classes=classes_of(labels, K, classes), threads=threads)
    checked = as_labels(labels, len(H))
    for rows in row_slices(len(H)):
        accumulator.update(H[rows], checked[rows])
    return accumulator.result(W, b, batches=(H[rows] for rows in row_slices(len(H))), centre=centre)


def _agreement(batches: Iterable[NDArray[Any]], W: Array, b: Array, means: Array, global_mean: Array) -> float:
    """Fraction of samples whose largest logit is that of the nearest class mean."""
    centred = means - global_mean
    half_squares = (centred**2).sum(axis=1) / 2
    agreements = samples = 0
    for batch in batches:
        H = batch.astype(np.float64)
        decided = np.argmax(H @ W.T + b, axis=1)
        nearest = np.argmax((H - global_mean) @ centred.T - half_squares, axis=1)
        agreements += int((decided == nearest).sum())
        samples += len(H)
    return agreements / samples if samples else np.nan


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else np.nan


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
