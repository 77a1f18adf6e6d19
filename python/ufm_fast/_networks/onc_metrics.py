"""Metrics of ordinal neural collapse."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas
from .._runtime.warnings import warn
from .arrays import as_array, as_real
from .feature_batches import FeatureBatches
from .labels import as_labels
from .tables import aligned, short

_UNIT = float(np.finfo(np.float64).eps)
_COINCIDING = 64  # roundings of the largest number


@dataclass(frozen=True)
class ONCMetrics:
    """How collapsed the features and the classifier of an ordinal regression network are.

    The network tells K levels, q = 0, ..., K - 1, by one score ``z = <w, h> + b`` and thresholds t_1 < ... < t_(K-1).
    With n_q samples of level q among N, mu_q is the mean of their features, mu that of all, and z_q the score of mu_q.
    What is undefined is NaN; levels without samples are passed over.

    Attributes
    ----------
    K, d, N : int
    counts : ndarray of int64, shape (K,)
    onc1 : float
        Within-class variability: ``sum_i |h_i - mu_{q(i)}|^2 / sum_i |h_i - mu|^2``, in [0, 1]; 0 at collapse.
    onc2 : float
        Share of the class means off w: ``sum_q n_q |mu_q - w <w, mu_q> / |w|^2|^2 / sum_q n_q |mu_q|^2``, in [0, 1]; 0
        where all are multiples of w.
    misalignment : ndarray, shape (K,)
        ``1 - |cos(mu_q, w)|``; NaN where mu_q vanishes.
    violations : int
        Pairs of neighbouring levels with z_q above z_(q+1), by more than rounding.
    onc3 : float
        The largest ``(z_q - z_(q+1))_+`` of neighbours over ``max z - min z``; 0 where scores have the order of levels.
    midpoint_distance : ndarray, shape (K,)
        ``|z_q - (t_q + t_(q+1))/2|``, where both thresholds are there and finite.
    onc3_midpoint : float
        The largest of these over half the length of its interval: below 1, class means are in their intervals, and 0 in
        the middle, where those of the interior levels tend with the decays for symmetric links.
    scores : ndarray, shape (K,)
        z_q.

    Notes
    -----
    Of Ma, Obuchi and Tanaka 2025, arXiv:2506.05801: (ONC1) features of a class collapse to their mean, (ONC2) class
    means align with the classifier, (ONC3) scores have the order of the levels and go to the midpoints as decays
    vanish. The paper's own normalisation of its metrics could not be confirmed; these are defined as above.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> levels = np.arange(90) % 3
    >>> w = np.array([[1.0, -2.0]])
    >>> metrics = uf.onc_metrics(w, (levels - 1)[:, None] * w, levels, [-2.0, 2.0])
    >>> metrics.onc1 < 1e-12, metrics.violations
    (True, 0)
    """

    K: int
    d: int
    N: int
    counts: NDArray[np.int64]
    onc1: float
    onc2: float
    onc3: float
    violations: int
    onc3_midpoint: float
    misalignment: Array = field(repr=False)
    midpoint_distance: Array = field(repr=False)
    scores: Array = field(repr=False)

    def __str__(self) -> str:
        """Return a table of the metrics, and of what they are at collapse, the last as decays vanish."""
        names = ("onc1", "onc2", "onc3", "violations", "onc3_midpoint")
        rows = [["", "value", "collapsed"], *([name, short(getattr(self, name)), "0"] for name in names)]
        return f"K = {self.K}, d = {self.d}, N = {self.N}\n{aligned(rows)}"


@single_threaded_blas()
def onc_metrics(
    W: ArrayLike, H: Any, labels: ArrayLike, thresholds: ArrayLike | None = None, b: ArrayLike | None = None
) -> ONCMetrics:
    """Compute metrics of ordinal neural collapse.

    Parameters
    ----------
    W : array, shape (1, d) or (d,)
        The classifier.
    H : array of float32 or float64, shape (N, d)
        Features, a row a sample; a memory-mapped array, or anything with a shape that gives arrays when sliced, is read
        three times in batches of at most 2048 rows. This and other arrays may be those of other libraries, as for
        `nc_metrics`.
    labels : ints, shape (N,)
        Levels, from 0 to K - 1, the highest among them.
    thresholds : K - 1 or K + 1 ascending numbers, optional
        The inner thresholds, or all; the outer ones may be infinite.
    b : number, or K - 1 ascending numbers, optional
        A number is added to the scores. K - 1 numbers, without thresholds, are thresholds that were learned.

    Returns
    -------
    ONCMetrics

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, an entry is not finite, thresholds do not ascend, or there are fewer than two
        levels.

    Warns
    -----
    RuntimeWarning
        If a metric is undefined: all features coincide, or W or all class means vanish.

    Notes
    -----
    Memory: ``K d`` float64 numbers and a batch. Cost: three passes over H.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> w, labels = np.array([[3.0, 4.0]]), np.array([0, 0, 1, 2, 2])
    >>> H = np.array([-1.0, -1.0, 0.1, 1.0, 1.0])[:, None] * w / 25  # scores -1, 0.1 and 1
    >>> m = uf.onc_metrics(w, H, labels, thresholds=[-0.5, 0.5])
    >>> max(m.onc1, m.onc2, m.onc3) < 1e-15, round(m.onc3_midpoint, 9)
    (True, 0.2)
    """
    w = _as_classifier(W)
    features = FeatureBatches(H, len(w))
    levels = as_labels(labels, features.N)
    if levels.min() < 0 or levels.max() < 1:
        raise ValueError(f"labels must be levels from 0 to K - 1, K at least 2, not {levels.min()} to {levels.max()}")
    K = int(levels.max()) + 1
    ends, shift = _ends(thresholds, b, K)
    counts = np.bincount(levels, minlength=K)
    means, within, total = _moments(features, levels, counts)
    present = counts > 0
    scores = np.where(present, means @ w + shift, np.nan)
    aligned = _Alignment(w, means, counts, features)
    onc1 = within / total if total > (_COINCIDING * features.precision * features.largest) ** 2 * features.N else np.nan
    violations, onc3 = _order(scores[present], features.largest * float(np.linalg.norm(w)))
    middle, half = (ends[:-1] + ends[1:]) / 2, (ends[1:] - ends[:-1]) / 2
    distance = np.where(np.isfinite(half), abs(scores - np.where(np.isfinite(half), middle, 0.0)), np.nan)
    relative = (distance / half)[np.isfinite(distance)]
    if np.isnan(onc1):
        warn("ONC1 is undefined: all features coincide", RuntimeWarning)
    if np.isnan(aligned.share):
        warn("ONC2 is undefined: W or all class means vanish", RuntimeWarning)
    return ONCMetrics(
        K=K,
        d=len(w),
        N=features.N,
        counts=counts,
        onc1=onc1,
        onc2=aligned.share,
        onc3=onc3,
        violations=violations,
        onc3_midpoint=float(relative.max()) if len(relative) else np.nan,
        misalignment=aligned.misalignment,
        midpoint_distance=distance,
        scores=scores,
    )


class _Alignment:
    """How far class means are from multiples of w."""

    def __init__(self, w: Array, means: Array, counts: NDArray[np.int64], features: FeatureBatches) -> None:
        norms, length = np.linalg.norm(means, axis=1), float(np.linalg.norm(w))
        directed = (counts > 0) & (norms > _COINCIDING * features.precision * features.largest)
        self.share, self.misalignment = np.nan, np.full(len(means), np.nan)
        if not (length > 0 and directed.any()):
            return
        unit = w / length
        off = means - np.outer(means @ unit, unit)
        squares = (off**2).sum(axis=1)
        self.share = float(counts @ squares / (counts @ norms**2))
        sines = np.minimum(squares[directed] / norms[directed] ** 2, 1.0)
        self.misalignment[directed] = sines / (1 + np.sqrt(1 - sines))


def _moments(
    features: FeatureBatches, levels: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[Array, float, float]:
    """Return class means, and the sums of squared distances to them and to the mean of all."""
    sums = np.zeros((len(counts), features.d))
    total = within = 0.0
    for rows, batch in features.about(features.mean):
        sums += features.group_sums(batch, levels[rows], len(counts))
        total += float((batch**2).sum())
    means = sums / np.maximum(counts, 1)[:, None]  # about the mean of all
    for rows, batch in features.about(features.mean):
        within += float(((batch - means[levels[rows]]) ** 2).sum())
    return np.where(counts[:, None] > 0, means + features.mean, 0.0), within, total


def _order(scores: Array, size: float) -> tuple[int, float]:
    """Return how many neighbours are out of order, by more than rounding of scores of a size, and ONC3."""
    falls = np.maximum(scores[:-1] - scores[1:], 0.0)
    falls[falls <= _COINCIDING * _UNIT * size] = 0.0
    spread = float(scores.max() - scores.min())
    return int((falls > 0).sum()), float(falls.max(initial=0.0)) / spread if spread > 0 else 0.0


def _as_classifier(W: ArrayLike) -> Array:
    w = as_real(W, "W").astype(np.float64)
    w = w[0] if w.ndim == 2 and len(w) == 1 else w
    if w.ndim != 1 or w.size == 0:
        hint = ": transpose it" if w.ndim == 2 and w.shape[1] == 1 else ""
        raise ValueError(f"W must have shape (1, d) or (d,), not {w.shape}{hint}")
    if not np.isfinite(w).all():
        raise ValueError("W must be finite, but holds a NaN or an infinity")
    return w


def _ends(thresholds: ArrayLike | None, b: ArrayLike | None, K: int) -> tuple[Array, float]:
    """Return the K + 1 ends of the levels' intervals, infinite where unknown, and what is added to scores."""
    shift = np.zeros(0) if b is None else np.atleast_1d(as_real(b, "b").astype(np.float64))
    if not np.isfinite(shift).all():
        raise ValueError("b must be finite, but holds a NaN or an infinity")
    name = "thresholds"
    if thresholds is None and shift.shape == (K - 1,):
        thresholds, shift, name = shift, np.zeros(0), "b"
    if shift.size > 1 or shift.ndim > 1:
        raise ValueError(f"b must be a number or, without thresholds, K - 1 = {K - 1} of them, not {shift.shape}")
    inner = np.full(K - 1, np.nan) if thresholds is None else as_array(thresholds, name)
    if inner.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, not {inner.dtype}")
    inner = inner.astype(np.float64)
    if inner.shape not in ((K - 1,), (K + 1,)):
        raise ValueError(
            f"{name} must be K - 1 = {K - 1} or K + 1 = {K + 1} numbers for K = {K} levels, not {inner.shape}"
        )
    ends = inner if len(inner) == K + 1 else np.concatenate([[-np.inf], inner, [np.inf]])
    if thresholds is not None and not (np.diff(ends) > 0).all():
        raise ValueError(f"{name} must ascend")
    return ends, float(shift.sum())
