"""Frames of K vectors whose Gram matrix is a multiple of the identity plus one of the all-ones matrix."""

from __future__ import annotations

import math

import numpy as np

from .._runtime.arguments import addressable, whole_number
from .._runtime.arrays import Array


def simplex_etf(K: int, d: int) -> Array:
    """Return a simplex equiangular tight frame: K unit vectors that are as far from each other as can be.

    Parameters
    ----------
    K : int
        Number of vectors, at least 2.
    d : int
        Their dimension, at least K - 1.

    Returns
    -------
    ndarray of float64, shape (K, d)
        Rows of unit norm, with cosines -1/(K-1) between each other and the sum zero. For ``d >= K`` the first K columns
        are symmetric and the others zero.

    Raises
    ------
    TypeError, ValueError
        If K or d is not as above.

    Notes
    -----
    This is the classifier of a balanced cross-entropy model at its minimum, up to scale and rotation (Papyan, Han and
    Donoho 2020, arXiv:2008.08186; Zhu et al. 2021, arXiv:2105.02375), and the one that is often fixed in training; see
    ``minimize(..., fixed="W")``.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> W = uf.simplex_etf(3, 2)
    >>> (W @ W.T).round(12).tolist()
    [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
    """
    K, d = whole_number(K, "K", 2), whole_number(d, "d", 1)
    if d < K - 1:
        raise ValueError(f"d must be at least K - 1 = {K - 1} for a simplex of {K} vectors, not {d}")
    addressable(K * d, np.float64, f"K = {K} and d = {d}")
    return frame(K, d, K / (K - 1), 0.0)


def frame(K: int, d: int, signal: float, mean: float) -> Array:
    """Return a (K, d) matrix F with F F^T = signal (I - J/K) + mean J/K, J the all-ones matrix.

    Symmetric, with zero columns added, for d >= K; for d = K - 1, where mean must be 0, an isometry of the K - 1
    coordinates onto the centred vectors.
    """
    F = np.zeros((K, d))
    width = min(K, d)
    if d >= K:
        F[:, :width] = (math.sqrt(mean) - math.sqrt(signal)) / K
    else:
        F[:-1] = -math.sqrt(signal) / (K + math.sqrt(K))
        F[-1] = -math.sqrt(signal / K)
    F[range(width), range(width)] += math.sqrt(signal)
    return F
