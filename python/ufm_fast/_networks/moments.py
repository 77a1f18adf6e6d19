"""Moments of labelled features about their class means."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._numerics import class_geometry
from .._runtime.arrays import Array
from .._runtime.blas import product

_SMALLEST = 1e-140  # differences of class means whose squares are far from underflow


@dataclass(frozen=True)
class Moments:
    """Class means, their differences from the global mean, and scatters, from what `ClassStatistics` has summed.

    Attributes
    ----------
    counts : ndarray of int64, shape (K,)
    class_means : ndarray, shape (K, d)
        NaN for classes without samples.
    roundings : ndarray, shape (K,)
        How far each can be, as a vector, from the mean of the features as they are.
    variances : ndarray, shape (K,)
    within : ndarray, shape (d, d)
        S_W.
    precision : float
        Relative, of the products in it.
    global_mean : ndarray, shape (d,)
    centred : ndarray, shape (K, d)
        Class means minus the global mean; exactly zero where no more than rounding is left.
    between : Between
    """

    counts: NDArray[np.int64]
    class_means: Array
    roundings: Array
    variances: Array
    within: Array
    precision: float
    global_mean: Array
    centred: Array
    between: class_geometry.Between
    centre: Literal["samples", "classes"]

    @classmethod
    def of(
        cls,
        counts: NDArray[np.int64],
        means: Array,
        roundings: Array,
        squares: Array,
        scatter: Array,
        precision: float,
        centre: Literal["samples", "classes"],
    ) -> Moments:
        """Take the global mean out.

        What the class means can be wrong by moves no singular value of their differences by more than that error's
        Frobenius norm: |roundings| for the means themselves and sqrt(K) times its own error for the global mean, which
        is the weighted mean of theirs.
        """
        K, N = len(counts), int(counts.sum())
        if N == 0:
            raise ValueError("there are no samples yet")
        empty = counts == 0
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            variances = squares / counts
            if not np.isfinite((means**2).sum()):
                raise ValueError("H must be smaller: the squares of its class means overflow")
        weights = counts / N if centre == "samples" else np.full(K, np.nan if empty.any() else 1 / K)
        first = means[np.argmin(empty)]
        differences = means - first  # which keeps what all have in common from being rounded once more
        shift = weights @ np.where(empty[:, None], 0.0, differences)
        centred = np.where(empty[:, None], np.nan, differences - shift)
        between = class_geometry.Between.undefined(means.shape[1])
        if not empty.any():
            between = class_geometry.Between.of(
                centred, float(np.linalg.norm(roundings) + np.sqrt(K) * (weights @ roundings))
            )
            centred[np.linalg.norm(centred, axis=1) <= between.cut_off] = 0
            if between.rank > 0 and between.singular_values[0] < _SMALLEST:
                raise ValueError("H must be larger: the squares of differences of its class means underflow")
        return cls(
            counts=counts,
            class_means=np.where(empty[:, None], np.nan, means),
            roundings=roundings,
            variances=variances,
            within=scatter / N,
            precision=precision,
            global_mean=first + shift,
            centred=centred,
            between=between,
            centre=centre,
        )

    @property
    def trace_within(self) -> float:
        """Trace of S_W."""
        return float(np.trace(self.within))

    @property
    def mean_square(self) -> float:
        """Mean of |h|^2."""
        return self.trace_within + float(self.counts @ np.nan_to_num((self.class_means**2).sum(axis=1))) / float(
            self.counts.sum()
        )

    def variability(self) -> dict[str, Any]:
        """NC1, and the spectra that it rests on."""
        measured = bool((self.counts > 1).any())
        nc1 = float(self.between.whitened(self.within).sum()) / len(self.counts)
        variances = np.where(self.counts == 1, np.nan, self.variances)
        return {
            "nc1": nc1 if measured and self.between.rank > 0 else np.nan,
            "nc1_trace_ratio": ratio(self.trace_within, self.between.trace) if measured else np.nan,
            "cdnv": class_geometry.class_distance_variance(self.class_means, variances, self.roundings),
            "rank_means": self.between.rank,
            "singular_values_means": self.between.singular_values,
            "spectrum_within": np.linalg.eigvalsh(self.within)[::-1].clip(min=0),
            "spectrum_between": self.between.spectrum,
        }

    def agreement(self, batches: Iterable[NDArray[Any]], W: Array, b: Array, threads: int) -> float:
        """NC4: the fraction of samples whose largest logit is that of the nearest class mean."""
        half_squares = (self.centred**2).sum(axis=1) / 2
        N = int(self.counts.sum())
        agreements = samples = 0
        for batch in batches:
            H = batch.astype(np.float64)
            if not np.isfinite(H).all():
                raise ValueError("batches must be finite, as the features were when they were first seen")
            decided = np.argmax(product(H, W.T, threads) + b, axis=1)
            nearest = np.argmax(product(H - self.global_mean, self.centred.T, threads) - half_squares, axis=1)
            agreements += int((decided == nearest).sum())
            samples += len(H)
        if samples != N:
            raise ValueError(f"batches must hold the {N} samples that were counted, once more, not {samples}")
        return agreements / N


def ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else np.nan
