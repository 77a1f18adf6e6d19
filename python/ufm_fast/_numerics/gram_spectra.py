"""What is asked of Gram matrices, at the cost of a factorisation; full eigendecompositions only where that fails."""

from __future__ import annotations

import contextlib
import math

import numpy as np
from scipy.linalg import lapack

from .._runtime import core, linalg
from .._runtime.arrays import Array
from .._runtime.blas import gram as gram_of

_BASIS = 30
_RESIDUAL = 1e-9
_BLOCK = 8
_RANK_TOLERANCE = 1e-6
_SCALE_TOLERANCE = 1e-2
_BALANCE, _VANISHING = 1e-3, 1e-4  # of squared norms; of the squared threshold of the rank


def norm_rounding(K: int) -> float:
    """Relative error allowed for in spectral norms of K x K matrices: see `_dual`."""
    return float((64 + 4 * K) * np.finfo(float).eps)


def leading_pairs(gram: Array, count: int, tolerance: float, threads: int) -> tuple[Array, Array, bool]:
    """Return largest eigenvalues, descending, unit vectors in rows, and whether the residuals are small enough.

    By thick-restart Lanczos; up to K/4 + 50 products of the matrix with a vector, about the time of an `eigh`.
    """
    K = len(gram)
    start = np.random.default_rng(0).standard_normal((count, K))
    values, vectors, residuals, _, norm = core.leading_eigenpairs(
        gram, start, count, basis=_BASIS, tolerance=tolerance, max_products=50 + K // 4, threads=threads
    )
    return -values, vectors, bool((residuals <= tolerance * norm).all())


def leading_pair(gram: Array, threads: int) -> tuple[float, Array]:
    """Return the largest eigenvalue of a Gram matrix and its vector, as accurate as from LAPACK.

    Lanczos; that no eigenvalue is larger (by more than a relative `norm_rounding`), a Cholesky factorisation shows.
    """
    K = len(gram)
    values, vectors, converged = leading_pairs(gram, 1, _RESIDUAL, threads)
    if converged and values[0] > 0:
        above = -gram
        above.flat[:: K + 1] += values[0] * (1 + norm_rounding(K))
        with contextlib.suppress(np.linalg.LinAlgError):
            linalg.cholesky(above)
            return float(values[0]), vectors[0]
    values, vectors = linalg.eigh(gram)
    return max(0.0, float(values[-1])), vectors[:, -1]


def leading_singular_pair(G: Array, threads: int) -> tuple[float, Array]:
    """Return |G|_2 and the unit vector that G lengthens by it."""
    size = float(abs(G).max())
    if size == 0:
        return 0.0, leading_pair(gram_of(G, threads), threads)[1]
    square, right = leading_pair(gram_of(G / size, threads), threads)
    return size * float(square**0.5), right


def rank_and_least(gram: Array, threshold: float) -> tuple[int, Array]:
    """Return how many eigenvalues exceed a positive threshold, and orthonormal columns near the least of them all.

    The count is that of positive eigenvalues of gram - threshold I = L D L^T (Sylvester's law of inertia; the 2 x 2
    blocks of a Bunch-Kaufman D have one each); the vectors, by a step of inverse iteration from random ones and a
    Rayleigh-Ritz step. Their quotients, ascending, are at most the threshold; but where no eigenvalue is, the one
    vector of least quotient is returned.
    """
    size = len(gram)
    shifted = gram.copy()
    shifted.flat[:: size + 1] -= threshold
    block = np.random.default_rng(0).standard_normal((size, min(_BLOCK, size)))
    work, _ = lapack.dsysv_lwork(size, lower=1)
    factors, pivots, block, info = lapack.dsysv(shifted.T, block, lwork=int(work), lower=1, overwrite_a=1)
    rank = int((np.diag(factors)[pivots > 0] > 0).sum() + (pivots < 0).sum() // 2)
    if info == 0 and np.isfinite(block).all():
        block, _ = linalg.qr(block)
        values, vectors = linalg.eigh(block.T @ (gram @ block))
        if rank == size or values[0] <= threshold:
            return rank, block @ vectors[:, : max(1, int((values <= threshold).sum()))]
    values, vectors = linalg.eigh(gram)
    rank = int((values > threshold).sum())
    return rank, vectors[:, : max(1, min(_BLOCK, size - rank))]


def common_rank(A: Array, B: Array, floor: float, threads: int) -> tuple[int, Array, Array]:
    """Return how many singular values of A on top of B count, the least singular vector, and the Gram matrix.

    Those count that exceed 1e-6 times the largest, to a percent, and times floor^(1/4). At critical points
    A^T A = B^T B, so A alone tells, unless B turns out not to vanish where A does; the Gram matrix is then 2 A^T A.
    """
    gram, squares = A.T @ A, (float(np.vdot(A, A)), float(np.vdot(B, B)))
    if max(squares) <= (1 + _BALANCE) * min(squares):
        gram *= 2
        rank, least, threshold = _rank(gram, floor, threads)
        if 2 * ((B @ least) ** 2).sum(axis=0).max() <= _VANISHING * threshold:
            return rank, least[:, 0], gram
        gram /= 2
    gram += B.T @ B
    rank, least, _ = _rank(gram, floor, threads)
    return rank, least[:, 0], gram


def _rank(gram: Array, floor: float, threads: int) -> tuple[int, Array, float]:
    squares, _, _ = leading_pairs(gram, 1, _SCALE_TOLERANCE, threads)
    threshold = _RANK_TOLERANCE**2 * max(float(squares[0]), math.sqrt(floor))
    return *rank_and_least(gram, threshold), threshold
