"""Which singular directions of the scores are nonzero at the global minimum, decided at a point near it."""

from __future__ import annotations

import numpy as np

from .._model.canonical import CanonicalProblem
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import gram, product

_APART = 0.1  # of the squared distance between the projections of two classes, at most 2: see `classes_together`


def kept_directions(problem: CanonicalProblem, A: Array, B: Array, b: Array) -> Array:
    """Return the right singular vectors, (K, rank), of the scores Z = B A^T at the global minimum near a point.

    There Z has singular value s > 0 along a pair of vectors (u, v) only if -u^T G v = tau, and where that is below tau
    it has none. Near a threshold an iterate says neither: its small singular values go to zero slowly, those of G to
    tau. A step of the proximal-gradient method sorts the pairs, and one Newton step along each decides those at the
    border: u^T Z v + (-u^T G v - tau) / c with c the curvature of the data term along u v^T, in which an error of the
    point along the pair cancels.
    """
    Z = product(B, A.T, problem.workers)
    _, G, _ = problem.data_term(Z, b)
    step = 1 / (problem.loss.curvature * problem.largest_ratio)
    moved = Z - step * G
    squares, V = linalg.eigh(gram(moved, problem.workers))
    squares, V = squares[::-1], V[:, ::-1]
    kept = int(np.sum(squares > (step * problem.tau) ** 2))

    def remains(index: int) -> bool:
        v = V[:, index]
        u = moved @ v
        u /= max(float(np.linalg.norm(u)), np.finfo(float).tiny)
        curvature = problem.curvature_along(G, np.outer(u, v))
        return float(u @ Z @ v) * curvature > float(u @ G @ v) + problem.tau

    while kept > 0 and not remains(kept - 1):
        kept -= 1
    while kept < min(problem.d, V.shape[1]) and remains(kept):
        kept += 1
    return np.ascontiguousarray(V[:, : min(kept, problem.d)])


def classes_together(directions: Array) -> int:
    """Count the classes whose classifier coincides with another's at a minimum that has these directions, (K, rank).

    Rows j and k of W coincide if e_j - e_k is orthogonal to all directions. Otherwise the squared length of its
    projection is near 2 or, between a class and those that have been given up, near 1: far from zero on either side of
    a threshold, while the distance of the rows themselves grows from zero.
    """
    projection = directions @ directions.T
    norms = np.diag(projection)
    distances = norms[:, None] + norms - 2 * projection
    np.fill_diagonal(distances, np.inf)
    return int(np.sum(distances.min(axis=1) < _APART))
