"""Neural-collapse metrics of features and a classifier, in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from numpy.typing import ArrayLike

from .._runtime.arguments import choice, function
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import checked_threads, get_num_threads
from .._runtime.warnings import warn
from .accumulator import CENTRES, NCAccumulator, Sums
from .agreement import Seen
from .collapse import classifier_of, measured
from .features import Batch, Readings, Samples
from .moments import Moments
from .nc_metrics import NCMetrics


@single_threaded_blas()
def nc_metrics(
    W: ArrayLike | None,
    H: Any,
    labels: ArrayLike,
    b: ArrayLike | None = None,
    *,
    classes: ArrayLike | None = None,
    ignore_index: ArrayLike | None = None,
    centre: Literal["samples", "classes"] = "samples",
    statistics: Literal["full", "traces"] = "full",
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> NCMetrics:
    """Compute neural-collapse metrics of a classifier and features.

    Parameters
    ----------
    W : array, shape (K, d), or None
        Classifier, a row a class. None for features without one, as those of other layers: metrics of W are NaN, and
        the classes are ``classes`` or, by default, the labels that occur.
    H : array of float32 or float64, shape (N, d)
        Features, a row a sample; a memory-mapped array, or anything with a shape that gives arrays when sliced, is read
        twice in batches of at most 2048 rows.
    labels : ints, shape (N,)
        In [0, K), row k of W belonging to label k; or exactly the numbers 1 to K, row k of W belonging to label k + 1,
        which is said in a warning; or anything with ``classes``. A masked array, or nullable integers of pandas, where
        some samples have none.
    b : array, shape (K,), optional
        No bias by default.
    classes : K ints, optional
        Row k of W belongs to label ``classes[k]``.
    ignore_index : int or several, optional
        Samples with these labels are left out everywhere, as are those whose label is masked or missing.
    centre : {"samples", "classes"}, optional
        As in `NCAccumulator.result`.
    statistics : {"full", "traces"}, optional
        As in `NCAccumulator`: "traces" is for features of so many dimensions d that no d x d matrix can be kept.
    threads : int, optional
        None follows `set_num_threads`.
    progress : callable, optional
        Called with the batches done and their number, over both readings.

    Returns
    -------
    NCMetrics

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, a label belongs to no class, or an entry is not finite.
    MemoryError
        If sums over the features need more memory than there is.

    Warns
    -----
    RuntimeWarning
        If a metric is undefined, as `NCAccumulator.result` says, or labels are 1 to K.

    Notes
    -----
    Arrays may be of any kind that NumPy can read, or that offers DLPack: tensors in main memory, in bfloat16 and with a
    gradient too, frames and columns of pandas, datasets of h5py and zarr. Frames must have all their numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> rng = np.random.default_rng(0)
    >>> labels = np.arange(300) % 3
    >>> W = rng.standard_normal((3, 8))
    >>> H = W[labels] + 0.1 * rng.standard_normal((300, 8))
    >>> metrics = uf.nc_metrics(W, H, labels)
    >>> metrics.nc1 < 0.01, metrics.nc4_agreement
    (True, 1.0)
    """
    choice(centre, "centre", CENTRES)
    threads = checked_threads(threads, "threads")
    classifier = classifier_of(W, b)
    K, d = (None, None) if classifier is None else classifier.W.shape
    if progress is not None:
        function(progress, "progress")
    samples = Samples(H, labels, K, d, classes=classes, ignore_index=ignore_index)
    batches = Readings(samples, 1 if W is None else 2, progress)
    found, messages = measured(
        Moments.of(*_sums(samples, batches, statistics, threads), centre=centre, threads=threads or get_num_threads()),
        classifier, samples.classes,
        batches=None if W is None else (Seen(batch.counted, batch.rows) for batch in batches),
        left_out=samples.N - len(samples.rows),
    )  # fmt: skip
    for message in messages:
        warn(message, RuntimeWarning)
    return found


def _sums(
    samples: Samples, batches: Iterable[Batch], statistics: Literal["full", "traces"], threads: int | None
) -> Sums:
    """Go through the samples once. Only what it returns is in memory when metrics are computed."""
    accumulator = NCAccumulator(
        len(samples.classes), samples.d, classes=samples.classes, statistics=statistics, threads=threads
    )
    for batch in batches:
        accumulator.update(batch.features, batch.labels)
    return accumulator._sums()[0]
