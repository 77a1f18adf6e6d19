"""Geometry of class means and classifiers: ranks, angles, distances to the simplex ETF; a tile of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

_TILE = 512
_CLOSE = 1e-4  # squared distances below this part of the squared norms are computed from differences


@dataclass(frozen=True)
class Between:
    """The between-class scatter S_B = M^T M / K, kept as singular values and directions of M (K, d)."""

    singular_values: NDArray[np.float64]
    directions: NDArray[np.float64]
    rank: int
    dropped: int
    cut_off: float
    K: int

    @classmethod
    def of(cls, centred: NDArray[np.float64], rounding: float) -> Between:
        """Keep the directions whose singular value is more than the error of ``centred`` and of the decomposition.

        The rows' weighted sum vanishes, and so does a column in which all means are equal, so that some singular values
        are 0 whatever was computed; ``dropped`` counts the others that are left out.
        """
        _, values, directions = np.linalg.svd(centred, full_matrices=False)
        cut_off = rounding + rounding_of_svd(centred.shape, values)
        possible = values[: min(len(centred) - 1, int(centred.any(axis=0).sum()))]
        rank = int((possible > cut_off).sum())
        return cls(values, directions, rank, int((possible > 0).sum()) - rank, cut_off, len(centred))

    @classmethod
    def undefined(cls, d: int) -> Between:
        """Stand for a scatter that cannot be known."""
        return cls(np.full(0, np.nan), np.zeros((0, d)), 0, 0, np.nan, 1)

    @property
    def spectrum(self) -> NDArray[np.float64]:
        """Eigenvalues, descending, (d,)."""
        d = self.directions.shape[1]
        if self.singular_values.size == 0:
            return np.full(d, np.nan)
        return np.concatenate([self.singular_values**2 / self.K, np.zeros(d - len(self.singular_values))])

    @property
    def trace(self) -> float:
        """Trace; 0 where all means coincide or nothing is known."""
        return float((self.singular_values**2).sum()) / self.K if self.rank > 0 else 0.0

    def whitened(self, within: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each direction kept adds to trace(within S_B^+), (rank,), not negative."""
        V = self.directions[: self.rank]
        forms = np.einsum("ri,ri->r", V @ within, V).clip(min=0)
        return np.asarray(forms * (self.K / self.singular_values[: self.rank] ** 2))


def rounding_of_svd(shape: tuple[int, ...], values: NDArray[np.float64]) -> float:
    """How far computed singular values, descending, may be from those of the array as it is."""
    return max(shape) * float(np.finfo(np.float64).eps) * float(values[0])


def norm_spread(rows: NDArray[np.float64]) -> float:
    """Return the standard deviation of the row norms over their mean; NaN for zero rows."""
    norms = np.linalg.norm(rows, axis=1)
    return float(norms.std() / norms.mean()) if norms.mean() > 0 else np.nan


@dataclass(frozen=True)
class Angles:
    """Cosines between different rows: mean, standard deviation, and mean distance to -1/(K-1)."""

    mean: float
    std: float
    from_etf: float


def angles(rows: NDArray[np.float64]) -> Angles:
    """Cosines between all pairs of different rows; NaN if a row vanishes."""
    K = len(rows)
    norms = np.linalg.norm(rows, axis=1)
    if not norms.min() > 0:
        return Angles(np.nan, np.nan, np.nan)
    unit = rows / norms[:, None]
    pairs, target = K * (K - 1), -1 / (K - 1)
    total = squares = distance = 0.0
    for _, gap in _off_diagonal(unit, unit, target):
        total += float(gap.sum())
        squares += float((gap**2).sum())
        distance += float(np.abs(gap).sum())
    mean = total / pairs
    return Angles(target + mean, float(np.sqrt(max(0.0, squares / pairs - mean**2))), distance / pairs)


def distance_to_etf(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return | A/|A|_F - T |_F for A = left right^T and T the simplex ETF's Gram matrix of unit norm; NaN if A = 0."""
    K = len(left)
    norm = np.sqrt(
        sum(float((left[tile] @ right.T) ** 2 @ np.ones(K) @ np.ones(len(left[tile]))) for tile in _tiles(K))
    )
    if not norm > 0:
        return np.nan
    squares = 0.0
    for tile in _tiles(K):
        difference = left[tile] @ right.T / norm + 1 / (K * np.sqrt(K - 1))
        difference[np.arange(len(difference)), np.arange(tile.start, tile.stop)] -= 1 / np.sqrt(K - 1)
        squares += float((difference**2).sum())
    return float(np.sqrt(squares))


def duality(W: NDArray[np.float64], M: NDArray[np.float64]) -> float:
    """Return | W/|W| - M/|M| |^2 (Frobenius); NaN if one vanishes."""
    norm_W, norm_M = np.linalg.norm(W), np.linalg.norm(M)
    return float(((W / norm_W - M / norm_M) ** 2).sum()) if norm_W > 0 and norm_M > 0 else np.nan


def class_distance_variance(
    means: NDArray[np.float64], variances: NDArray[np.float64], roundings: NDArray[np.float64]
) -> float:
    """Mean over pairs of different classes of (V_j + V_k) / (2 |mu_j - mu_k|^2), those of NaN variance left out.

    NaN if fewer than two classes are left; infinite if two of their means coincide, or may but for the roundings of
    each, and a variance does not vanish.
    """
    measured = np.isfinite(variances)
    V = variances[measured]
    K = len(V)
    if K < 2 or not np.isfinite(means).all():
        return np.nan
    M, errors = means[measured] - means[measured].mean(axis=0), roundings[measured]
    norms = (M**2).sum(axis=1)
    total = 0.0
    for tile in _tiles(K):
        sums = norms[tile, None] + norms
        distances = sums - 2 * (M[tile] @ M.T)
        diagonal = np.arange(len(distances)), np.arange(tile.start, tile.stop)
        distances[diagonal] = np.inf
        close = (distances < _CLOSE * sums).any(axis=1)
        if close.any():
            distances[close] = cdist(M[tile][close], M, "sqeuclidean")
            distances[distances <= (errors[tile, None] + errors) ** 2] = 0
            distances[diagonal] = np.inf
        sums = V[tile, None] + V
        with np.errstate(divide="ignore", invalid="ignore"):
            total += float((sums / distances).sum())
    return total / (2 * K * (K - 1))


def _tiles(K: int) -> Iterator[slice]:
    return (slice(first, min(first + _TILE, K)) for first in range(0, K, _TILE))


def _off_diagonal(
    left: NDArray[np.float64], right: NDArray[np.float64], target: float
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield tiles of left right^T - target with zeros on the diagonal."""
    for tile in _tiles(len(left)):
        gap = left[tile] @ right.T - target
        gap[np.arange(len(gap)), np.arange(tile.start, tile.stop)] = 0
        yield tile, gap
