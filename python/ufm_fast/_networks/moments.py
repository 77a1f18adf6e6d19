"""Moments of labelled features about their class means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._numerics import class_geometry
from .._runtime import linalg
from .._runtime.arrays import Array

_SMALLEST = 1e-140  # differences of class means whose squares are far from underflow


@dataclass(frozen=True)
class Moments:
    """Class means, their differences from the global mean, and scatters, from what `ClassStatistics` has summed.

    There are K classes, P of which have samples; whatever is by class is of these P alone.

    Attributes
    ----------
    all_counts : ndarray of int64, shape (K,)
    present : ndarray of int64, shape (P,)
        The classes that have samples, ascending.
    class_means : ndarray, shape (P, d)
    roundings : ndarray, shape (P,)
        How far each can be, as a vector, from the mean of the features as they are.
    variances : ndarray, shape (P,)
    spectrum_within : ndarray, shape (d,)
        Eigenvalues of S_W, descending; NaN if it was not summed.
    whitened : ndarray, or None if S_W was not summed
        What each direction in which class means differ adds to trace(S_W S_B^+).
    precision : float
        Relative, of the products in S_W.
    global_mean : ndarray, shape (d,)
    global_rounding : float
    centred : ndarray, shape (P, d)
        Class means minus the global mean; exactly zero where no more than rounding is left.
    between : Between
    centre : {"samples", "classes"}
    threads : int
    """

    all_counts: NDArray[np.int64]
    present: NDArray[np.int64]
    class_means: Array
    roundings: Array
    variances: Array
    spectrum_within: Array
    whitened: Array | None
    precision: float
    global_mean: Array
    global_rounding: float
    centred: Array
    between: class_geometry.Between
    centre: Literal["samples", "classes"]
    threads: int

    @classmethod
    def of(
        cls,
        counts: NDArray[np.int64],
        means: Array,
        roundings: Array,
        squares: Array,
        scatter: Array | None,
        precision: float,
        centre: Literal["samples", "classes"],
        threads: int,
    ) -> Moments:
        """Take the global mean out.

        ``scatter`` becomes S_W. What the class means can be wrong by moves no singular value of their differences by
        more than that error's Frobenius norm: |roundings| for the means themselves and sqrt(P) times its own error for
        the global mean, which is the weighted mean of theirs.
        """
        N = int(counts.sum())
        if N == 0:
            raise ValueError("there are no samples yet")
        present = np.flatnonzero(counts)
        if len(present) < len(counts):
            means, roundings, squares = means[present], roundings[present], squares[present]
        sizes, P = counts[present], len(present)
        with np.errstate(over="ignore"):
            if not np.isfinite((means**2).sum()):
                raise ValueError("H must be smaller: the squares of its class means overflow")
        weights = sizes / N if centre == "samples" else np.full(P, 1 / P)
        centred = means - means[0]  # which keeps what all have in common from being rounded once more
        shift = weights @ centred
        centred -= shift
        global_rounding = float(weights @ roundings)
        spectrum, whitened = np.full(means.shape[1], np.nan), None
        if scatter is not None:
            scatter /= N
            spectrum = linalg.eigvalsh(scatter)[::-1].clip(min=0)
        rounding = float(np.linalg.norm(roundings) + np.sqrt(P) * global_rounding)
        directions, between = class_geometry.Between.of(centred, rounding, vectors=scatter is not None)
        if between.rank.kept > 0 and between.singular_values[0] < _SMALLEST:
            raise ValueError("H must be larger: the squares of differences of its class means underflow")
        if scatter is not None and directions is not None:
            whitened = between.whitened(directions, scatter, threads)
        centred[np.linalg.norm(centred, axis=1) <= between.rank.cut_off] = 0
        return cls(
            all_counts=counts,
            present=present,
            class_means=means,
            roundings=roundings,
            variances=squares / sizes,
            spectrum_within=spectrum,
            whitened=whitened,
            precision=precision,
            global_mean=means[0] + shift,
            global_rounding=global_rounding,
            centred=centred,
            between=between,
            centre=centre,
            threads=threads,
        )

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples of each class that has some, (P,)."""
        return self.all_counts[self.present]

    @property
    def trace_within(self) -> float:
        """Trace of S_W."""
        return float(self.counts @ self.variances) / float(self.counts.sum())

    @property
    def mean_square(self) -> float:
        """Mean of |h|^2."""
        return self.trace_within + float(self.counts @ (self.class_means**2).sum(axis=1)) / float(self.counts.sum())

    def variability(self) -> dict[str, Any]:
        """NC1, and the spectra that it rests on."""
        measured = bool((self.counts > 1).any())
        rank = self.between.rank
        return {
            "nc1": (
                float(self.whitened.sum()) / len(self.present)
                if self.whitened is not None and measured and rank.kept > 0
                else np.nan
            ),
            "nc1_trace_ratio": ratio(self.trace_within, self.between.trace) if measured else np.nan,
            "cdnv": class_geometry.class_distance_variance(
                self.class_means, np.where(self.counts == 1, np.nan, self.variances), self.roundings, self.threads
            ),
            "rank_means": rank.kept,
            "dropped_means": rank.dropped,
            "singular_values_means": self.between.singular_values,
            "spectrum_within": self.spectrum_within,
            "spectrum_between": self.between.spectrum,
        }

    def rows_of_present(self, values: Array) -> Array:
        """Take the rows that belong to the present classes."""
        return values if len(self.present) == len(self.all_counts) else values[self.present]

    def of_all_classes(self, values: Array) -> Array:
        """Put rows that belong to the present classes among those of all; the others are NaN."""
        if len(self.present) == len(self.all_counts):
            return values
        filled = np.full((len(self.all_counts), *values.shape[1:]), np.nan)
        filled[self.present] = values
        return filled


def ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else np.nan
