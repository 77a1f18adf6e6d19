"""Statistics of labelled features, gathered batch by batch, from which neural-collapse metrics follow."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._runtime import core
from .._runtime.arguments import addressable, choice, whole_number
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import checked_threads, get_num_threads
from .._runtime.warnings import warn
from .agreement import Seen
from .arrays import precision_of
from .collapse import Classifier, measured
from .features import as_classifier, as_features, refuse_infinite
from .labels import LabelRule, as_classes, as_ignored
from .moments import Moments
from .nc_metrics import NCMetrics

CENTRES = ("samples", "classes")  # what the global mean is taken over


class NCAccumulator:
    """Statistics of labelled features, gathered batch by batch, from which `NCMetrics` follow.

    Features may be float32 or float64. They are shifted by a reference near their class's mean and summed in float64,
    so that within-class noise far below the size of the features survives; float32 products are taken 4096 rows at a
    time, which leaves a relative error of about 1e-7 in S_W, the class means having that of float64. Pass float64
    features for more. Labels lie in [0, K) or are among ``classes``; any other is refused.

    Parameters
    ----------
    K, d : int
        Number of classes and feature dimension, positive.
    classes : K ints, optional
        The label of each class, different from each other: row k of W belongs to ``classes[k]``. By default k.
    ignore_index : int or several, optional
        Samples with these labels are left out, as are those whose label is masked or missing.
    threads : int, optional
        None follows `set_num_threads`.

    Attributes
    ----------
    left_out : int
        Samples seen that are left out, not among `counts`.

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

    def __init__(
        self,
        K: int,
        d: int,
        *,
        classes: ArrayLike | None = None,
        ignore_index: ArrayLike | None = None,
        threads: int | None = None,
    ) -> None:
        self.K, self.d = whole_number(K, "K", 1), whole_number(d, "d", 1)
        addressable((self.K + self.d) * self.d, np.float64, f"K = {self.K} and d = {self.d}")
        self.threads = None if threads is None else checked_threads(threads, "threads")
        ignored = as_ignored(ignore_index)
        self._rule = LabelRule(np.arange(self.K) if classes is None else as_classes(classes, self.K, ignored), ignored)
        self.classes = self._rule.classes
        self.left_out = 0
        self._statistics = core.ClassStatistics(self.K, self.d)
        self._precision = 0.0  # relative, of the products in S_W
        self._lock = threading.Lock()

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples seen of each class, (K,)."""
        with self._lock:
            return self._statistics.counts()

    @single_threaded_blas()
    def update(self, H: ArrayLike, labels: ArrayLike) -> NCAccumulator:
        """Add a batch.

        Parameters
        ----------
        H : array of float32 or float64, shape (batch, d)
            Integers, float16 and bfloat16 are converted; all arrays may be those of other libraries, as for
            `nc_metrics`.
        labels : ints, shape (batch,)
            A masked array, or nullable integers of pandas, where some have none.

        Returns
        -------
        NCAccumulator
            Itself.

        Raises
        ------
        TypeError, ValueError
            If shapes or types do not fit, a label is none of `classes`, or H is not finite; samples are numbered from
            the first ever seen, not from the batch's first. After features that are not finite, or an interrupt
            (Ctrl-C), the accumulator is of no use any more, and says so.
        """
        features = as_features(H, self.d)
        with self._lock:
            first = int(self._statistics.counts().sum()) + self.left_out
            kept, rows = self._rule.rows(labels, len(features), first)
            counted = features if kept is None else features[kept]
            try:
                self._statistics.update(counted, rows, self.threads or get_num_threads())
            except ValueError:
                refuse_infinite(counted, first + np.arange(len(features))[slice(None) if kept is None else kept])
                raise
            self.left_out += len(features) - len(rows)
            self._precision = max(self._precision, float(np.finfo(features.dtype).eps))
        return self

    @single_threaded_blas()
    def merge(self, other: NCAccumulator) -> NCAccumulator:
        """Add what another accumulator of the same K, d and classes has seen, and return itself.

        Raises
        ------
        TypeError, ValueError
            If other is no accumulator, the two do not fit, or are the same.
        """
        if not isinstance(other, NCAccumulator):
            raise TypeError(f"other must be an NCAccumulator, not {type(other).__name__}")
        if not np.array_equal(self.classes, other.classes):
            raise ValueError("other must have the same classes")
        first, second = sorted((self, other), key=id)
        if first is second:
            raise ValueError("other must be another accumulator")
        with first._lock, second._lock:
            self._statistics.merge(other._statistics, self.threads or get_num_threads())
            self._precision = max(self._precision, other._precision)
            self.left_out += other.left_out
        return self

    @single_threaded_blas()
    def result(
        self,
        W: ArrayLike | None,
        b: ArrayLike | None = None,
        *,
        batches: Iterable[Any] | None = None,
        centre: Literal["samples", "classes"] = "samples",
    ) -> NCMetrics:
        """Compute the metrics.

        Parameters
        ----------
        W : array, shape (K, d), or None
            The classifier; without one, metrics of W are NaN.
        b : array, shape (K,), optional
            No bias by default.
        batches : iterable of arrays (batch, d), or of pairs of these and labels, optional
            The features once more, in any order: NC4 needs the class means before it can look at a sample. Without
            labels samples that were left out must not be among them; with them they are left out again, and samples
            near their class's mean take much less time. Without batches `NCMetrics.nc4_agreement` is NaN.
        centre : {"samples", "classes"}, optional
            The global mean: over samples, as in the papers' code, or over class means.

        Returns
        -------
        NCMetrics

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit or is not finite, batches hold more or fewer samples than were counted, or no
            sample was.

        Warns
        -----
        RuntimeWarning
            If a metric is undefined, naming the classes that are the reason; if NC1 leaves out directions in which the
            class means differ by no more than rounding may have done; or if it rests on within-class variation that
            float32 products do not resolve.

        Notes
        -----
        Cost: a singular value decomposition of K x d, eigenvalues of d x d, six products K x d x K (tile by tile), and
        two products K x d x N for NC4.
        """
        choice(centre, "centre", CENTRES)
        if batches is not None and not isinstance(batches, Iterable):
            raise TypeError(f"batches must be an iterable of arrays, not {type(batches).__name__}")
        if W is None and b is not None:
            raise ValueError("b must be None where W is")
        classifier = None if W is None else Classifier(*as_classifier(W, b, self.K, self.d), precision_of(W))
        found, messages = measured(
            self._moments(centre), classifier, self.classes,
            batches=None if batches is None else map(self._seen, batches),
            left_out=self.left_out,
        )  # fmt: skip
        for message in messages:
            warn(message, RuntimeWarning)
        return found

    def _seen(self, batch: Any) -> Seen:
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and np.ndim(batch[0]) == 2):
            return Seen(as_features(batch, self.d), None)
        features = as_features(batch[0], self.d)
        kept, rows = self._rule.rows(batch[1], len(features))
        return Seen(features if kept is None else features[kept], rows)

    def _moments(self, centre: Literal["samples", "classes"]) -> Moments:
        with self._lock:
            counts, precision = self._statistics.counts(), self._precision
            means, roundings, squares, scatter = self._statistics.read(self.threads or get_num_threads())
        threads = self.threads or get_num_threads()
        return Moments.of(counts, means, roundings, squares, scatter, precision, centre, threads)
