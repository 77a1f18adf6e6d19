"""Factors of scores."""

from __future__ import annotations

import numpy as np

from .._runtime import linalg
from .._runtime.arrays import Array


def aligned_factors(Z: Array) -> tuple[Array, Array]:
    """Return the factors of Z with the least penalty in the class-aligned gauge (as near symmetric as may be)."""
    U, s, Vt = linalg.svd(Z)
    left, _, right = linalg.svd(U.T + Vt)
    turn = np.sqrt(s)[:, None] * (left @ right)
    return Vt.T @ turn, U @ turn


def fitted(A: Array, B: Array, columns: int) -> tuple[Array, Array]:
    """Return factors with so many columns: padded with zeros, or the best ones of that rank."""
    missing = columns - A.shape[1]
    if missing == 0:
        return A, B
    if missing > 0:
        padded = [np.pad(X, ((0, 0), (0, missing))) for X in (A, B)]
        return padded[0], padded[1]
    U, s, Vt = linalg.svd(B @ A.T)
    root = np.sqrt(s[:columns])
    return np.ascontiguousarray(Vt[:columns].T * root), U[:, :columns] * root


def of_least_rank(A: Array, B: Array, negligible: float, other: float) -> tuple[Array, Array]:
    """Return balanced factors of the same scores, less singular values that are negligible.

    That is: beside the largest, or beside `other`, the largest of the scores on other axes.
    """
    U, s, Vt = linalg.svd(B @ A.T)
    kept = s > negligible * max(s[0], other)
    root = np.sqrt(s[kept])
    return Vt[kept].T * root, U[:, kept] * root
