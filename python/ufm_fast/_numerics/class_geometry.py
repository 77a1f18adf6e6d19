"""Geometry of class means and classifiers: ranks, angles, distances to the simplex ETF; a tile of rows at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from .._runtime import linalg
from .._runtime.blas import product

_TILE = 512
_CLOSE = 1e-4  # squared distances below this part of the squared norms are computed from differences
_EPS = float(np.finfo(np.float64).eps)
_ONE_DIRECTION = 16 * _EPS  # how far apart normalising and scaling may leave two rows of one direction, at most
_SMALLEST_SCALE = 1e-30  # of a product of two matrices, part of the product of their norms

Matrix = NDArray[np.float64]


class Rank(NamedTuple):
    """How many singular values are above rounding, how many of the others might be but are not, and that limit."""

    kept: int
    dropped: int
    cut_off: float

    @classmethod
    def of(cls, values: NDArray[np.float64], rows: Matrix, possible: int, rounding: float) -> Rank:
        """Count singular values, descending, of rows known up to a rounding, a bound on its Frobenius norm.

        No more than ``possible`` of them, nor than there are columns other than zero, can be anything but zero.
        """
        cut_off = rounding + rounding_of_svd(rows.shape, values)
        candidates = values[: min(possible, int(rows.any(axis=0).sum()))]
        kept = int((candidates > cut_off).sum())
        return cls(kept, int((candidates > 0).sum()) - kept, cut_off)


@dataclass(frozen=True)
class Between:
    """The between-class scatter S_B = M^T M / K of K rows M in d dimensions, by the singular values of M."""

    singular_values: NDArray[np.float64]
    rank: Rank
    K: int
    d: int

    @classmethod
    def of(cls, centred: Matrix, rounding: float, vectors: bool) -> tuple[Matrix | None, Between]:
        """Return the right singular vectors of M, if wanted, and S_B, which leaves out what may be rounding.

        A direction is kept if its singular value is more than the error of ``centred`` and of the decomposition. The
        rows' weighted sum vanishes, so that one singular value is 0 whatever was computed.
        """
        directions: Matrix | None = None
        if vectors:
            _, values, directions = linalg.svd(centred, full_matrices=False)
        else:
            values = linalg.svd(centred, compute_uv=False)
        return directions, cls(values, Rank.of(values, centred, len(centred) - 1, rounding), *centred.shape)

    @property
    def spectrum(self) -> NDArray[np.float64]:
        """Eigenvalues, descending, (d,)."""
        return np.concatenate([self.singular_values**2 / self.K, np.zeros(self.d - len(self.singular_values))])

    @property
    def trace(self) -> float:
        """Trace; 0 where all means coincide."""
        return float((self.singular_values**2).sum()) / self.K if self.rank.kept > 0 else 0.0

    def whitened(self, directions: Matrix, within: Matrix, threads: int) -> NDArray[np.float64]:
        """Return what each direction kept adds to trace(within S_B^+), not negative."""
        if self.rank.kept == 0:
            return np.zeros(0)
        V = directions[: self.rank.kept]
        forms = np.einsum("ri,ri->r", product(V, within, threads), V).clip(min=0)
        return np.asarray(forms * (self.K / self.singular_values[: self.rank.kept] ** 2))


def rounding_of_svd(shape: tuple[int, ...], values: NDArray[np.float64]) -> float:
    """How far computed singular values, descending, may be from those of the array as it is."""
    return max(shape) * _EPS * float(values[0])


def norm_spread(rows: Matrix) -> float:
    """Return the standard deviation of the row norms over their mean; NaN for zero rows."""
    norms = np.linalg.norm(rows, axis=1)
    return float(norms.std() / norms.mean()) if norms.mean() > 0 else np.nan


class Angles(NamedTuple):
    """Of the pairs of different rows: their cosines and the logarithms of the inverse distances of their directions.

    ``mean`` and ``std`` are of the cosines, ``from_etf`` is the mean distance of these to -1/(K-1); ``log_mean`` and
    ``log_std`` are of the logarithms: infinite, and NaN, if two rows have one direction.
    """

    mean: float
    std: float
    from_etf: float
    log_mean: float
    log_std: float


def angles(rows: Matrix, roundings: NDArray[np.float64] | None = None, threads: int = 1) -> Angles:
    """Measure all pairs of different rows, each known up to its rounding; NaN if a row vanishes or is alone."""
    K = len(rows)
    norms = np.linalg.norm(rows, axis=1)
    if K < 2 or not norms.min() > 0:
        return Angles(*[np.nan] * 5)
    unit = rows / norms[:, None]
    errors = np.full(K, _ONE_DIRECTION) if roundings is None else _ONE_DIRECTION + 2 * roundings / norms
    first = float(unit[0] @ unit[1])  # sums are about the first pair, so that what all pairs have in common cancels
    first_log = -math.log(max(float(np.linalg.norm(unit[0] - unit[1])), _ONE_DIRECTION))
    sums = np.zeros(5)
    for tile, cosines in _upper(unit, threads):
        distances = _squared_distances(unit, cosines, tile, errors)
        with np.errstate(divide="ignore"):
            logs = -np.log(distances) / 2 - first_log
        gap, from_etf = cosines - first, np.abs(cosines + 1 / (K - 1))
        for values in (gap, from_etf, logs):
            np.fill_diagonal(values, 0)
        sums += [_both_ways(f) for f in (gap, gap**2, from_etf, logs, logs**2)]
    mean, square, distance, log_mean, log_square = sums / (K * (K - 1))
    with np.errstate(invalid="ignore"):
        log_std = np.sqrt(np.maximum(0.0, log_square - log_mean**2))
    return Angles(
        float(first + mean),
        float(np.sqrt(max(0.0, square - mean**2))),
        float(distance),
        float(first_log + log_mean),
        float(log_std),
    )


def distance_to_etf(left: Matrix, right: Matrix, threads: int = 1) -> float:
    """Return | A/|A|_F - T |_F for A = left right^T and T the simplex ETF's Gram matrix of unit norm; NaN if A = 0.

    One pass over A, with E = A/a - T for a scale a that is right at the ETF: with r = a/|A| the matrix in question is
    r E + (r - 1) T. Since a <= |A| sqrt(K/(K-1)), nothing large cancels.
    """
    K = len(left)
    if K < 2:
        return np.nan
    root = np.sqrt(K - 1)
    sizes = float(np.linalg.norm(left) * np.linalg.norm(right))
    a = max(float(np.einsum("ki,ki->", left, right)) / root, _SMALLEST_SCALE * sizes)
    if not a > 0:
        return np.nan
    sums = np.zeros(3)
    symmetric = left is right
    total: Callable[[Matrix], float] = _both_ways if symmetric else _plain_sum
    for tile, A in _upper(left, threads) if symmetric else _full(left, right, threads):
        A /= a
        E = A + 1 / (K * root)
        first = 0 if symmetric else tile.start
        diagonal = np.arange(len(A)), np.arange(first, first + len(A))
        E[diagonal] -= 1 / root
        with_T = -E / (K * root)
        with_T[diagonal] += E[diagonal] / root
        sums += [total(f) for f in (A**2, E**2, with_T)]
    norm, square, along = np.sqrt(sums[0]), sums[1], sums[2]
    if not norm > 0:
        return np.nan
    r, excess = 1 / norm, (1 - norm) / norm
    return float(np.sqrt(max(0.0, r**2 * square + 2 * r * excess * along + excess**2)))


def duality(W: Matrix, M: Matrix) -> float:
    """Return | W/|W| - M/|M| |^2 (Frobenius); NaN if one vanishes."""
    norm_W, norm_M = np.linalg.norm(W), np.linalg.norm(M)
    return float(((W / norm_W - M / norm_M) ** 2).sum()) if norm_W > 0 and norm_M > 0 else np.nan


def alignment(W: Matrix, M: Matrix) -> tuple[float, float]:
    """Return mean and standard deviation of the cosines between rows of one place; NaN if a row vanishes."""
    norms = np.linalg.norm(W, axis=1) * np.linalg.norm(M, axis=1)
    if not (len(W) and norms.min() > 0):
        return np.nan, np.nan
    cosines = np.einsum("ki,ki->k", W, M) / norms
    return float(cosines.mean()), float(cosines.std())


def class_distance_variance(
    means: Matrix, variances: NDArray[np.float64], roundings: NDArray[np.float64], threads: int = 1
) -> float:
    """Mean over pairs of different classes of (V_j + V_k) / (2 |mu_j - mu_k|^2), those of NaN variance left out.

    NaN if fewer than two classes are left; infinite if two of their means coincide, or may but for the roundings of
    each, and a variance does not vanish.
    """
    measured = np.isfinite(variances)
    V = variances[measured]
    K = len(V)
    if K < 2:
        return np.nan
    M = means[measured] - means[measured].mean(axis=0)
    total = 0.0
    for tile, products in _upper(M, threads):
        distances = _squared_distances(M, products, tile, roundings[measured])
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = (V[tile, None] + V[tile.start :]) / distances
        np.fill_diagonal(parts, 0)
        total += _both_ways(parts)
    return total / (2 * K * (K - 1))


def _squared_distances(rows: Matrix, products: Matrix, tile: slice, errors: NDArray[np.float64]) -> Matrix:
    """Return |x_j - x_k|^2 for a tile of products as `_upper` gives them; 0 where the errors of both may be all of it.

    What is on the diagonal means nothing.
    """
    first = tile.start
    norms: NDArray[np.float64] = np.einsum("ki,ki->k", rows[first:], rows[first:])
    sums = norms[: len(products), None] + norms
    distances: Matrix = sums - 2 * products
    np.fill_diagonal(distances, np.inf)
    close = distances < _CLOSE * sums
    if close.any():
        some, others = close.any(axis=1), close.any(axis=0)
        distances[np.ix_(some, others)] = cdist(rows[tile][some], rows[first:][others], "sqeuclidean")
        distances[distances <= (errors[tile, None] + errors[first:]) ** 2] = 0
    return distances


def _tiles(K: int) -> Iterator[slice]:
    return (slice(first, min(first + _TILE, K)) for first in range(0, K, _TILE))


def _full(left: Matrix, right: Matrix, threads: int) -> Iterator[tuple[slice, Matrix]]:
    """Yield tiles of left right^T."""
    return ((tile, product(left[tile], right.T, threads)) for tile in _tiles(len(left)))


def _upper(rows: Matrix, threads: int) -> Iterator[tuple[slice, Matrix]]:
    """Yield tiles of rows rows^T from the diagonal to the right: each begins with a square on the diagonal."""
    return ((tile, product(rows[tile], rows[tile.start :].T, threads)) for tile in _tiles(len(rows)))


def _both_ways(values: Matrix) -> float:
    """Sum a tile as `_upper` gives them, and what it stands for below the diagonal."""
    return float(values[:, : len(values)].sum() + 2 * values[:, len(values) :].sum())


def _plain_sum(values: Matrix) -> float:
    return float(values.sum())
