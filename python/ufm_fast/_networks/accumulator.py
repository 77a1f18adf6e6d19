"""Statistics of labelled features, gathered batch by batch, from which neural-collapse metrics follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._runtime import core
from .._runtime.arguments import addressable, choice, whole_number
from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.threads import checked_threads, get_num_threads
from .._runtime.turns import Turns
from .._runtime.warnings import warn
from .accumulator_state import FORMAT, STATISTICS, checked, parts_of
from .agreement import Seen
from .collapse import classifier_of, measured
from .features import as_features, refuse_infinite
from .labels import LabelRule, as_classes, as_ignored
from .moments import Moments
from .nc_metrics import NCMetrics

CENTRES = ("samples", "classes")  # what the global mean is taken over


class Sums(NamedTuple):
    """What `Moments.of` begins with."""

    counts: NDArray[np.int64]
    means: Array
    roundings: Array
    squares: Array
    scatter: Array | None
    precision: float


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
    statistics : {"full", "traces"}, optional
        "traces" keeps no d x d matrix, so that features may have very many dimensions, such as all the activations of a
        convolutional layer; ``nc1`` and ``spectrum_within``, which need that matrix, are then NaN. All other metrics
        are those of "full", the variances of classes being summed besides.
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
    MemoryError
        If the statistics and `result` need more memory than there is.

    Notes
    -----
    Memory: ``d^2 + 2 K d`` float64 numbers and, while updating, ``4096 d + d^2`` of the batch's type, or 512^2 for each
    thread where ``d^2`` is less, however many samples; `result` needs ``2 d^2`` and about ``16 K d`` float64 numbers
    more. With "traces" there is no ``d^2`` in these. Cost: that of the product ``H.T @ H`` and a pass over H; with
    "traces", of the pass.

    One accumulator may be used by several threads, which take turns: the sums are then the same but for their order. A
    signal's handler that comes in the midst of a turn of its own thread gets a RuntimeError instead of one.

    Accumulators can be pickled, copied and sent to other processes, and those of parts of the data merged. Copies share
    nothing.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(300) % 3
    >>> W = rng.standard_normal((3, 8))
    >>> H = W[labels] + 0.1 * rng.standard_normal((300, 8))
    >>> first = uf.NCAccumulator(3, 8).update(H[:200], labels[:200])
    >>> second = uf.NCAccumulator(3, 8).update(H[200:], labels[200:])
    >>> bool(np.isclose(first.merge(second).result(W).nc1, uf.nc_metrics(W, H, labels).nc1))
    True
    """

    def __init__(
        self,
        K: int,
        d: int,
        *,
        classes: ArrayLike | None = None,
        ignore_index: ArrayLike | None = None,
        statistics: Literal["full", "traces"] = "full",
        threads: int | None = None,
    ) -> None:
        self.K, self.d = whole_number(K, "K", 1), whole_number(d, "d", 1)
        self.statistics = choice(statistics, "statistics", STATISTICS)
        _check_size(self.K, self.d, self.statistics == "full")
        self.threads = checked_threads(threads, "threads")
        ignored = as_ignored(ignore_index)
        self._rule = LabelRule(np.arange(self.K) if classes is None else as_classes(classes, self.K, ignored), ignored)
        self.classes = self._rule.classes
        self.left_out = 0
        self._statistics = core.ClassStatistics(self.K, self.d, self.statistics == "full")
        self._precision = 0.0  # relative, of the products in S_W
        self._turns = Turns("this accumulator")

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples seen of each class, (K,).

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> uf.NCAccumulator(3, 2).update(np.ones((4, 2)), [0, 2, 2, 2]).counts
        array([1, 0, 3])
        """
        with self._turns.turn():
            return self._statistics.counts()

    @property
    def class_means(self) -> Array:
        """Mean of the features of each class, (K, d); NaN where it has no samples yet.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> uf.NCAccumulator(2, 2).update([[1.0, 2.0], [3.0, 4.0]], [0, 0]).class_means
        array([[ 2.,  3.],
               [nan, nan]])
        """
        (counts, means, *_), _ = self._sums()
        means[counts == 0] = np.nan
        return means

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

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> accumulator = uf.NCAccumulator(3, 2, ignore_index=-100)
        >>> accumulator.update(np.ones((4, 2)), [0, 2, -100, 2]).left_out
        1
        """
        features = as_features(H, self.d)
        with self._turns.turn():
            first = int(self._statistics.counts().sum()) + self.left_out
            kept, rows = self._rule.rows(labels, len(features), first)
            counted = features if kept is None else features[kept]
            self.left_out += len(features) - len(rows)  # before a signal can come between the two
            self._precision = max(self._precision, float(np.finfo(features.dtype).eps))
            try:
                self._statistics.update(counted, rows, self.threads or get_num_threads())
            except ValueError:
                refuse_infinite(counted, first + np.arange(len(features))[slice(None) if kept is None else kept])
                raise
        return self

    def state(self) -> dict[str, Any]:
        """Return all that has been gathered, as arrays and numbers that `from_state` takes back without a bit lost.

        ``numpy.savez(file, **accumulator.state())`` writes them, and ``NCAccumulator.from_state(numpy.load(file))``
        reads them, without pickles. They are copies; what the entries mean may change between versions of the library.

        Raises
        ------
        ValueError
            If an update was interrupted or refused, after which there is nothing to go on with.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> uf.NCAccumulator(3, 2).update(np.ones((4, 2)), [0, 2, 2, 2]).state()["counts"]
        array([1, 0, 3])
        """
        with self._turns.turn():
            return {
                "format": FORMAT,
                "statistics": self.statistics,
                "classes": self.classes.copy(),
                "ignored": self._rule.ignored.copy(),
                "left_out": self.left_out,
                "precision": self._precision,
                **self._statistics.state(),
            }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], threads: int | None = None) -> NCAccumulator:
        """Make an accumulator that goes on where another was when its `state` was taken.

        Parameters
        ----------
        state : mapping
            What `state` has returned, or a file of `numpy.savez` with it.
        threads : int, optional
            None follows `set_num_threads`.

        Raises
        ------
        TypeError, ValueError
            If an entry is missing, strange, not of its type and shape, or contradicts another; the error names it.
        MemoryError
            As for a new accumulator.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> accumulator = uf.NCAccumulator(3, 2).update(np.ones((4, 2)), [0, 2, 2, 2])
        >>> uf.NCAccumulator.from_state(accumulator.state()).counts
        array([1, 0, 3])
        """
        found = checked(state)
        accumulator = cls(
            *found["references"].shape, classes=found["classes"], ignore_index=found["ignored"],
            statistics=found["statistics"], threads=threads,
        )  # fmt: skip
        accumulator._statistics.set_state(parts_of(found))
        accumulator.left_out, accumulator._precision = int(found["left_out"]), float(found["precision"])
        return accumulator

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by way of the state."""
        return type(self).from_state, (self.state(), self.threads)

    @single_threaded_blas()
    def merge(self, other: NCAccumulator) -> NCAccumulator:
        """Add what another accumulator of the same K, d, classes and statistics has seen, and return itself.

        Raises
        ------
        TypeError, ValueError
            If other is no accumulator, the two do not fit, or are the same.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> first = uf.NCAccumulator(3, 2).update(np.ones((4, 2)), [0, 2, 2, 2])
        >>> second = uf.NCAccumulator(3, 2).update(np.ones((2, 2)), [0, 1])
        >>> first.merge(second).counts
        array([2, 1, 3])
        """
        if not isinstance(other, NCAccumulator):
            raise TypeError(f"other must be an NCAccumulator, not {type(other).__name__}")
        if not np.array_equal(self.classes, other.classes):
            raise ValueError("other must have the same classes")
        if self.statistics != other.statistics:
            raise ValueError(f"other must have statistics={self.statistics!r}, as this has, not {other.statistics!r}")
        first, second = sorted((self, other), key=id)
        if first is second:
            raise ValueError("other must be another accumulator")
        with first._turns.turn(), second._turns.turn():
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
        Cost: a singular value decomposition of K x d, eigenvalues of d x d unless statistics="traces", six products
        K x d x K (tile by tile), and two products K x d x N for NC4.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> labels = np.arange(300) % 3
        >>> W = uf.simplex_etf(3, 8)
        >>> H = W[labels] + 0.1 * np.random.default_rng(0).standard_normal((300, 8))
        >>> metrics = uf.NCAccumulator(3, 8).update(H, labels).result(W, batches=[H])
        >>> metrics.nc4_agreement
        1.0
        """
        choice(centre, "centre", CENTRES)
        if batches is not None and not isinstance(batches, Iterable):
            raise TypeError(f"batches must be an iterable of arrays, not {type(batches).__name__}")
        classifier = classifier_of(W, b, self.K, self.d)
        threads = self.threads or get_num_threads()
        sums, left_out = self._sums()
        found, messages = measured(
            Moments.of(*sums, centre=centre, threads=threads), classifier, self.classes,
            batches=None if batches is None else map(self._seen, batches),
            left_out=left_out,
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

    def _sums(self) -> tuple[Sums, int]:
        """Return what metrics are computed from, and how many samples had been left out by then."""
        with self._turns.turn():
            read = self._statistics.read(self.threads or get_num_threads())
            return Sums(self._statistics.counts(), *read, self._precision), self.left_out


def _check_size(K: int, d: int, full: bool) -> None:
    """Refuse sizes whose arrays cannot be, or that the statistics and the metrics from them have no memory for."""
    addressable((K + d * full) * d, np.float64, f"K = {K} and d = {d}")
    require_memory(
        "NCAccumulator", 18 * K * d + 3 * d * d * full, K=K, d=d,
        advice='statistics="traces" keeps no d x d matrix' if full else "",
    )  # fmt: skip
