"""Moments of labelled features about their class means, and the neural-collapse metrics that follow from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._numerics import class_geometry
from .._runtime.arrays import Array
from .._runtime.blas import product

_EPS = float(np.finfo(np.float64).eps)
_SMALLEST = 1e-140  # differences of class means whose squares are far from underflow
_UNCERTAIN = 0.01  # part of NC1
_UNRESOLVED = 0.1  # part of NC1 that roundings of S_W would be if all added up; measured ones are about a 300th of it


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
            "nc1_trace_ratio": _ratio(self.trace_within, self.between.trace) if measured else np.nan,
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


def classifier_metrics(W: Array, b: Array, moments: Moments, eps: float) -> dict[str, Any]:
    """Metrics of W alone, and of W beside the class means; eps is that of the type that W came in."""
    values = np.asarray(np.linalg.svd(W, compute_uv=False), dtype=np.float64)
    norm = float(np.linalg.norm(W))
    return {
        "bias_term": math.hypot(*(b + W @ moments.global_mean)),
        "norm_ratio": _ratio(norm**2 / len(W), moments.mean_square),
        "rank_W": int((values > eps / 2 * norm + class_geometry.rounding_of_svd(W.shape, values)).sum()),
        "singular_values_W": values,
    }


def row_metrics(W: Array, moments: Moments) -> dict[str, float]:
    """NC2 and NC3, none of which depends on the size of W or of the features."""
    W, M, means = _scaled(W), _scaled(moments.centred), _scaled(moments.class_means)
    W_centred = _centred_rows(W)
    sets = {"W": W, "W_centred": W_centred, "means": M}
    angles = {name: class_geometry.angles(rows) for name, rows in sets.items()}
    return {
        **{f"nc2_{name}": class_geometry.distance_to_etf(rows, rows) for name, rows in sets.items()},
        "nc2_means_uncentred": class_geometry.distance_to_etf(means, means),
        **{f"equinorm_{name}": class_geometry.norm_spread(rows) for name, rows in sets.items()},
        **{f"cosine_mean_{name}": value.mean for name, value in angles.items()},
        **{f"cosine_std_{name}": value.std for name, value in angles.items()},
        **{f"equiangularity_{name}": value.from_etf for name, value in angles.items()},
        "nc3_product": class_geometry.distance_to_etf(W, M),
        "nc3_product_centred": class_geometry.distance_to_etf(W_centred, M),
        "nc3_duality": class_geometry.duality(W, M),
        "nc3_duality_centred": class_geometry.duality(W_centred, M),
    }


def gaps(found: dict[str, Any], W: Array, moments: Moments, names: NDArray[np.int64]) -> Iterator[str]:
    """Say which metrics are undefined or leave something out, and why, with the classes' labels."""
    empty, single = moments.counts == 0, moments.counts == 1
    if empty.any():
        yield f"class means, and all metrics of them, are undefined: no samples of {_classes(names[empty])}"
    if single.any():
        yield f"within-class variation of {_classes(names[single])} cannot be measured: one sample"
    if not moments.mean_square > 0:
        yield "all features are zero: norm_ratio is undefined"
    if not empty.any():
        yield from _gaps_of_means(found, moments, names)
    W = _scaled(W)
    W_centred = _centred_rows(W)
    for rows, whole, one, metrics in (
        (W, "W is zero", "W is zero in the row of", "W"),
        (W_centred, "all rows of W are equal", "the mean of W's rows is the row of", "centred W"),
    ):
        zero = ~rows.any(axis=1)
        if zero.all():
            yield f"{whole}: metrics of {metrics} are undefined"
        elif zero.any():
            yield f"{one} {_classes(names[zero])}: cosines of {metrics} are undefined"
    for name, rows in (("nc3_product", W), ("nc3_product_centred", W_centred)):
        if np.isnan(found[name]) and moments.between.rank > 0 and rows.any():
            yield f"each row of W is orthogonal to each class mean: {name} is undefined"


def _gaps_of_means(found: dict[str, Any], moments: Moments, names: NDArray[np.int64]) -> Iterator[str]:
    between = moments.between
    rounding = f"by no more than rounding may have done ({between.cut_off:.1e})"
    if between.rank == 0:
        how = f"differ {rounding}" if between.dropped else "coincide"
        yield f"class means {how}: metrics of their differences are undefined"
        return
    if between.dropped:
        yield (
            f"NC1 leaves out {between.dropped} of {between.rank + between.dropped} directions, in which class means "
            f"differ {rounding}"
        )
    parts, kept = between.whitened(moments.within), between.singular_values[: between.rank]
    if parts @ (2 * between.cut_off / kept) > _UNCERTAIN * parts.sum():
        yield (
            f"NC1 may be off by more than {_UNCERTAIN:.0%}: in some directions class means differ by little more than "
            f"rounding may have done ({between.cut_off:.1e})"
        )
    unresolved = moments.precision * found["spectrum_within"][0]
    if (unresolved * len(names) / kept**2).sum() > _UNRESOLVED * parts.sum():
        yield (
            "NC1 depends on directions in which classes vary less than the products of float32 features resolve: pass "
            "float64 features"
        )
    middle = ~moments.centred.any(axis=1)
    if middle.any():
        yield f"the mean of {_classes(names[middle])} is the global mean: cosines of class means are undefined"
    if not np.isfinite(found["cdnv"]) and (moments.counts > 1).sum() > 1:
        yield "two class means coincide: cdnv is infinite, or undefined where their classes do not vary"


def _centred_rows(W: Array) -> Array:
    """W minus the mean of its rows; rows that are no more than rounding are zero."""
    differences = W - W[0]
    centred: Array = differences - differences.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    centred[norms <= max(W.shape) * _EPS * norms.max()] = 0
    return centred


def _scaled(rows: Array) -> Array:
    """Divide by the power of two next to the largest entry, so that no product overflows or vanishes."""
    exponent = int(np.frexp(np.nan_to_num(np.abs(rows)).max())[1])
    return np.ldexp(rows, -exponent)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else np.nan


def _classes(labels: NDArray[np.int64]) -> str:
    shown = ", ".join(map(str, labels[:10]))
    return f"class{'es' if len(labels) > 1 else ''} {shown}{', ...' if len(labels) > 10 else ''}"
