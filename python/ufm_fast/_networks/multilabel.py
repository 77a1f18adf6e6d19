"""The angle metric of neural collapse where samples have several labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .._runtime.arrays import Array
from .._runtime.blas import product, single_threaded_blas
from .._runtime.threads import get_num_threads
from .._runtime.warnings import warn
from .arrays import as_array, as_real
from .feature_batches import FeatureBatches
from .tables import aligned, short

_TILE = 1024


class AngleMetric(NamedTuple):
    """Angles, in degrees, between means of samples with several labels and averages of single-label means.

    Attributes
    ----------
    sets : int
        How many label sets of this multiplicity have an angle: samples, and for each label a sample with no other.
    angle : float
        Mean over these sets S of the angle between mu_S and a_S.
    baseline : float
        Mean of the angle between mu_S and a_T over all S and T, where neither vanishes.
    ratio : float
        The angle metric, ``angle / baseline``: 0 at collapse.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    >>> pairs = uf.multilabel_angles(targets * 1.0, targets).by_multiplicity[2]
    >>> pairs.sets, pairs.angle < 1e-5
    (2, True)
    """

    sets: int
    angle: float
    baseline: float
    ratio: float


@dataclass(frozen=True)
class MultilabelAngles:
    """How near features of samples with several labels are to scaled averages of single-label means.

    With mu_S the mean of the features of all samples whose labels are exactly those of a set S, and
    ``a_S = sum_{k in S} mu_{k}``, the sum of the means of samples with one label: under multi-label neural collapse
    mu_S is a positive multiple of a_S (Li et al. 2024, arXiv:2310.15903).

    Attributes
    ----------
    K, d, N : int
    left_out : int
        Samples without any label; N does not count them.
    label_sets : tuple of tuples of int
        Those that have samples, by number of labels and then in order.
    counts : ndarray of int64
        How many samples have them.
    angles : ndarray
        In degrees, between mu_S and a_S; NaN for single labels, and where a label has no sample of its own.
    by_multiplicity : dict of int to AngleMetric
        For each number of labels from 2 on that occurs: sets S and T of so many labels. T is any pair of labels with
        single-label means for two labels, as in the authors' code, which goes no further; for more labels, whose sets
        are too many, T is one of those that have samples. What is undefined is NaN, with a warning.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    >>> found = uf.multilabel_angles(targets * 1.0, targets)
    >>> found.label_sets
    ((0,), (1,), (2,), (0, 1), (1, 2))
    """

    K: int
    d: int
    N: int
    left_out: int
    label_sets: tuple[tuple[int, ...], ...] = field(repr=False)
    counts: NDArray[np.int64] = field(repr=False)
    angles: Array = field(repr=False)
    by_multiplicity: dict[int, AngleMetric]

    def __str__(self) -> str:
        """Return a table of the angle metrics, which are 0 at collapse."""
        rows = [["labels", "sets", "angle", "baseline", "ratio"]]
        rows += [[str(m), *map(short, metric)] for m, metric in self.by_multiplicity.items()]
        return f"K = {self.K}, d = {self.d}, N = {self.N}, {self.left_out} samples left out\n{aligned(rows)}"


@single_threaded_blas()
def multilabel_angles(H: Any, targets: Any) -> MultilabelAngles:
    """Compute the angle metric of multi-label neural collapse.

    Other metrics of such networks are those of the samples with a single label: give these to `nc_metrics`.

    Parameters
    ----------
    H : array of float32 or float64, shape (N, d)
        Features, a row a sample, read as `nrc_metrics` reads them. They are not centred, as in the authors' code.
    targets : array or scipy.sparse array, shape (N, K)
        1 where a sample has a label, otherwise 0.

    Returns
    -------
    MultilabelAngles

    Raises
    ------
    TypeError, ValueError
        If shapes or types do not fit, a target is neither 0 nor 1, or a feature is not finite.

    Warns
    -----
    RuntimeWarning
        If label sets have no angle because a label has no sample of its own, or because a mean or an average vanishes.

    Notes
    -----
    Memory: a feature for each label set. Cost: two passes over H and, with S sets of two labels, ``S d K^2 / 2``
    multiplications.

    Examples
    --------
    >>> import numpy as np
    >>> import ufm_fast as uf
    >>> targets = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    >>> H = targets @ np.array([[2, -1, -1], [-1, 2, -1], [-1, -1, 2.0]])
    >>> round(uf.multilabel_angles(H, targets).by_multiplicity[2].ratio, 9)
    0.0
    """
    matrix = _as_targets(targets)
    features = FeatureBatches(H, None)
    if matrix.shape[0] != features.N:
        raise ValueError(f"targets must have {features.N} rows, as many as H, not {matrix.shape[0]}")
    label_sets, group = _label_sets(matrix)
    if not label_sets:
        raise ValueError("targets must give a label to some sample")
    counts = np.bincount(group[group >= 0], minlength=len(label_sets))
    means = _means(features, group, counts)
    own = {labels[0]: row for row, labels in enumerate(label_sets) if len(labels) == 1}
    angles = np.full(len(label_sets), np.nan)
    metrics = {}
    for m in sorted({len(labels) for labels in label_sets} - {1}):
        matched = [row for row, labels in enumerate(label_sets) if len(labels) == m and set(labels) <= own.keys()]
        rows = np.array(matched, dtype=int)
        sets = [tuple(own[k] for k in label_sets[row]) for row in rows]
        metrics[m], angles[rows] = _metric(means, means[rows], sets, list(own.values()))
    undefined = sum(len(labels) > 1 for labels in label_sets) - int(np.isfinite(angles).sum())
    if undefined:
        warn(
            f"{undefined} label sets have no angle: a label has no sample of its own, or a mean or an average is zero",
            RuntimeWarning,
        )
    return MultilabelAngles(
        K=matrix.shape[1],
        d=features.d,
        N=int(counts.sum()),
        left_out=features.N - int(counts.sum()),
        label_sets=tuple(label_sets),
        counts=counts,
        angles=angles,
        by_multiplicity=metrics,
    )


def _metric(means: Array, of_sets: Array, sets: list[tuple[int, ...]], singles: list[int]) -> tuple[AngleMetric, Array]:
    """Return the metric of label sets of one multiplicity, and their angles; labels are rows of ``means``."""
    if not sets:
        return AngleMetric(0, np.nan, np.nan, np.nan), np.zeros(0)
    pairs = len(sets[0]) == 2
    others = list(combinations(sorted(singles), 2)) if pairs else sets
    place = {frozenset(labels): column for column, labels in enumerate(others)}
    unit = _unit(of_sets)
    angles = _angles(unit, _unit(means[np.array(sets)].sum(axis=1)))
    total, number = 0.0, 0
    columns = np.array([place[frozenset(labels)] for labels in sets])
    for first in range(0, len(others), _TILE):
        tile = np.array(others[first : first + _TILE])
        cosines = product(unit, _unit(means[tile].sum(axis=1)).T, get_num_threads())
        between = np.degrees(np.arccos(cosines.clip(-1, 1)))
        here = np.flatnonzero((columns >= first) & (columns < first + len(tile)))
        between[here, columns[here] - first] = angles[here]  # where the cosine is near 1 and says little
        defined = np.isfinite(between)
        total += float(between[defined].sum())
        number += int(defined.sum())
    measured = angles[np.isfinite(angles)]
    if len(measured) == 0:
        return AngleMetric(0, np.nan, np.nan, np.nan), angles
    angle, baseline = float(measured.mean()), total / number
    return AngleMetric(len(measured), angle, baseline, angle / baseline if baseline > 0 else np.nan), angles


def _angles(left: Array, right: Array) -> Array:
    """Angles in degrees between rows of unit length, accurate if they are small, too."""
    apart, together = np.linalg.norm(left - right, axis=1), np.linalg.norm(left + right, axis=1)
    return np.asarray(np.degrees(2 * np.arctan2(apart, together)))


def _unit(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.full_like(rows, np.nan), where=norms > 0))


def _as_targets(targets: Any) -> sparse.csr_array:
    if not sparse.issparse(targets):
        array = as_array(targets, "targets")
        numbers = array.astype(np.int8) if array.dtype == bool else as_real(array, "targets")
        targets = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    if targets.ndim != 2:
        raise ValueError(f"targets must have shape (N, K), a row a sample, not {targets.shape}")
    matrix = sparse.csr_array(targets, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    if not (matrix.data == 1).all():
        raise ValueError(f"targets must be 0 or 1, not {matrix.data[matrix.data != 1][0]}")
    return matrix


def _label_sets(matrix: sparse.csr_array) -> tuple[list[tuple[int, ...]], NDArray[np.int64]]:
    """Return the different label sets, by size and in order, and which of them each row has; -1 where it has none."""
    rows = [tuple(matrix.indices[a:b].tolist()) for a, b in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]
    label_sets = sorted(set(rows) - {()}, key=lambda labels: (len(labels), labels))
    number = {labels: i for i, labels in enumerate(label_sets)} | {(): -1}
    return label_sets, np.array([number[row] for row in rows], dtype=np.int64)


def _means(features: FeatureBatches, group: NDArray[np.int64], counts: NDArray[np.int64]) -> Array:
    totals = np.zeros((len(counts), features.d))
    for rows, batch in features.about(np.zeros(features.d)):
        totals += features.group_sums(batch, group[rows], len(counts))
    return np.asarray(totals / counts[:, None])
