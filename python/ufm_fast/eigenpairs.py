"""Lowest eigenpairs of the Hessian of a model."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import _core
from ._arguments import flag, real_number, whole_number
from ._blas import single_threaded_blas
from ._isometric import IsometricProblem
from ._newton import Array
from ._warnings import ConvergenceWarning
from .model import UFM, Point

_ABSENT = 1e-6  # relative size of a direction of the feature space that counts as absent from W and H
_CRITICAL = 1e-6
_VANISHING = 1e-7  # relative size of a singular value that counts as zero
_PRODUCTS = 20_000


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """What `lowest_eigenpairs` found. All numbers are those of the full-sample problem.

    Attributes
    ----------
    eigenvalues : ndarray, shape (k,)
        Ascending.
    vectors : list of Point
        Unit eigenvectors: ``|W|^2 + sum_i |h_i|^2 + |b|^2 = 1`` over all samples (a collapsed row counts n_k times).
    residuals : ndarray, shape (k,)
        Norms of Hessian times vector less eigenvalue times vector, across the rotations if these were left out.
    products : int
        Hessian products used.
    deflated : int
        Dimension of the space that was left out: tangents to the rotations of the feature space, along which the
        curvature of a critical point is zero. 0 if nothing was.
    within_class : float
        Bound from below on the eigenvalues that were not searched: those of moves of samples within their class, which
        a model with class means does not represent. lambda_H, attained where some direction is orthogonal to all of W;
        infinite where there are no such moves.
    """

    eigenvalues: Array
    vectors: list[Point]
    residuals: Array
    products: int
    deflated: int
    within_class: float


class _Pair(NamedTuple):
    value: float
    vector: Point  # in isometric coordinates


@single_threaded_blas()
def lowest_eigenpairs(
    ufm: UFM,
    p: Point,
    k: int = 1,
    tol: float = 1e-8,
    *,
    deflate: bool | None = None,
    max_products: int = _PRODUCTS,
    seed: int = 0,
) -> Eigenpairs:
    """Find the lowest eigenvalues of the Hessian of the full-sample problem and their eigenvectors.

    Directions of the feature space that W and H leave empty are solved exactly: there the Hessian consists of the
    blocks [[lambda_W, s], [s, lambda_H]] for the singular values s of the gradient matrix G, and its lowest eigenvalue
    (lambda_W + lambda_H)/2 - sqrt((lambda_W - lambda_H)^2/4 + s^2) at the largest s is the lowest of all, if it is at
    most lambda_b. So at a saddle the first pairs need singular vectors of G only. The rest is left to a preconditioned
    block Davidson method on Hessian products (theory of the landscape: Gu and Shen 2024, arXiv:2407.10702).

    Parameters
    ----------
    ufm : UFM
    p : Point
        As for `UFM.loss`.
    k : int, optional
        How many, with multiplicity.
    tol : float, optional
        Residual norms wanted, relative to the largest |eigenvalue| met. Errors of eigenvalues are of the order of their
        squares.
    deflate : bool, optional
        Whether to search only orthogonally to the rotations of the feature space (W S, H S), S skew. They are null
        vectors at a critical point, r (r - 1)/2 + r (d - r) in number at rank r, and would be the lowest pairs of a
        minimum. None stands for True where the gradient is at most 1e-6 of tau |(W, H)| in canonical coordinates.
        Elsewhere, True gives the eigenvalues of the Hessian's compression to the complement.
    max_products : int, optional
        Hessian products after which to stop.
    seed : int, optional
        Of the start vectors.

    Returns
    -------
    Eigenpairs
        Fewer than k pairs, if the space is smaller.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Warns
    -----
    ConvergenceWarning
        If the search ended before all residuals were small enough, as by `max_products`.

    Notes
    -----
    Always in float64. A Hessian product costs six or seven K x r x M products. Memory: about 9 k + 40 vectors of
    (K + M) r numbers, and one M x K array where a quarter of the free memory holds it.
    """
    k, tol = whole_number(k, "k", 1), real_number(tol, "tol", above=0, below=1)
    max_products, seed = whole_number(max_products, "max_products", 1), whole_number(seed, "seed", 0)
    deflate = None if deflate is None else flag(deflate, "deflate")
    problem = IsometricProblem(ufm)
    point = problem.coordinates(ufm._checked(p, ufm.M))
    critical = _is_critical(problem, point)
    if deflate is None:
        deflate = critical
    squares, turn = np.linalg.eigh(point.W.T @ point.W + point.H.T @ point.H)
    squares, turn = squares[::-1], turn[:, ::-1]
    W, H = point.W @ turn, point.H @ turn
    sizes = np.hypot(np.linalg.norm(W, axis=0), np.linalg.norm(H, axis=0))
    rank = int(np.count_nonzero(sizes > _ABSENT * sizes[0])) if sizes[0] > 0 else 0
    active = max(rank, 1)
    if deflate and not critical:  # rotations couple empty directions with the others
        W[:, rank:], H[:, rank:], active = 0, 0, ufm.d
    W, H = np.ascontiguousarray(W[:, :active]), np.ascontiguousarray(H[:, :active])

    empty = turn[:, active:]
    pairs, norm = _in_empty_directions(
        problem, Point(W, H, point.b), empty, k, rank if deflate and critical else 0, seed
    )
    lowest = _lowest_branch(ufm, norm)
    bound = min(lowest, ufm.lambda_b) if ufm.bias else lowest
    products, largest = 0, 0.0
    if len(pairs) < k or pairs[k - 1].value > bound + 1e-12 * abs(bound):
        factors = Point(W, H, point.b)
        found, products, largest = _in_active_directions(
            problem, factors, turn[:, :active], k, tol, deflate, max_products, seed
        )
        pairs = sorted(pairs + found, key=lambda pair: pair.value)
    pairs = pairs[:k]

    compiled = problem.compiled(ufm.d)
    residuals = []
    for value, v in pairs:
        image = Point(*problem.run(compiled.hvp, *point, *v))
        residual = Point(*(x - value * y for x, y in zip(image, v, strict=True)))
        if deflate:
            residual = _across_rotations(point, squares, turn, residual)
        residuals.append(math.sqrt(sum(float(np.sum(part**2)) for part in residual)))
    scale = max(largest, *(abs(value) for value, _ in pairs), ufm.lambda_W + ufm.lambda_H)
    if max(residuals) > 10 * tol * scale:
        warnings.warn(
            f"stopped after {products} Hessian products at residuals of up to {max(residuals):.1e}, "
            f"not {tol * scale:.1e}",
            ConvergenceWarning,
            stacklevel=3,
        )
    spread = ufm.collapse_classes and bool((ufm.counts > 1).any())
    return Eigenpairs(
        eigenvalues=np.array([value for value, _ in pairs]),
        vectors=[problem.plain(vector) for _, vector in pairs],
        residuals=np.array(residuals),
        products=products + len(pairs),
        deflated=rank * (rank - 1) // 2 + rank * (ufm.d - rank) if deflate else 0,
        within_class=ufm.lambda_H if spread else math.inf,
    )


def _is_critical(problem: IsometricProblem, p: Point) -> bool:
    ufm = problem.ufm
    _, grad_W, grad_H, _ = problem.run(problem.compiled(ufm.d).loss_and_grad, *p)
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    gradient = math.hypot(rho * float(np.linalg.norm(grad_W)), float(np.linalg.norm(grad_H)) / rho)
    size = math.hypot(float(np.linalg.norm(p.W)) / rho, rho * float(np.linalg.norm(p.H)))
    return gradient <= _CRITICAL * ufm.tau * size


def _across_rotations(p: Point, squares: Array, turn: Array, v: Point) -> Point:
    """Project v orthogonally to (W S, H S), S skew; `squares` and `turn` diagonalise M = W^T W + H^T H.

    The component is the S with M S + S M = C - C^T, C = W^T V_W + H^T V_H.
    """
    C = turn.T @ (p.W.T @ v.W + p.H.T @ v.H) @ turn
    sums = np.add.outer(squares, squares)
    present = sums > _ABSENT**2 * squares[0]
    S = turn @ np.where(present, (C - C.T) / np.where(present, sums, 1.0), 0.0) @ turn.T
    return Point(v.W - p.W @ S, v.H - p.H @ S, v.b)


def _lowest_branch(ufm: UFM, s: float) -> float:
    """Lower eigenvalue of [[lambda_W, s], [s, lambda_H]]."""
    return _branches(ufm, s)[0][0]


def _branches(ufm: UFM, s: float) -> list[tuple[float, float, float]]:
    """Eigenvalues of [[lambda_W, s], [s, lambda_H]], ascending, each with its unit eigenvector."""
    values, vectors = np.linalg.eigh(np.array([[ufm.lambda_W, s], [s, ufm.lambda_H]]))
    return [(float(values[i]), float(vectors[0, i]), float(vectors[1, i])) for i in range(2)]


def _in_empty_directions(
    problem: IsometricProblem, p: Point, empty: Array, k: int, deflated: int, seed: int
) -> tuple[list[_Pair], float]:
    """The k lowest pairs among moves of W and H along the columns of `empty`; and the gradient matrix's norm.

    With `deflated` = r > 0 the pairs of G that belong to the column spaces of the rank-r factors, where G is -tau times
    an isometry, are left out: their lower eigenvalue 0 is that of rotations.
    """
    ufm, width = problem.ufm, empty.shape[1]
    spaces = [_orthonormal(X) if deflated else X[:, :0] for X in (p.W, p.H)]
    count = min(max(1, -(-k // max(width, 1))), problem.K)
    start = np.random.default_rng(seed).standard_normal((count, problem.K))
    options = {"basis": 3 * count + 12, "tolerance": 1e-13, "max_products": 50 * problem.K, "keep": problem.keeps}
    squares, right, images, _ = problem.run(
        _core.singular_triplets, problem.compiled(p.W.shape[1]), *p, np.ascontiguousarray(spaces[0].T), start, count,
        **options,
    )  # fmt: skip
    s = np.linalg.norm(images[: len(squares)], axis=1)
    norm = max(float(s.max(initial=0.0)), ufm.tau if deflated else 0.0)
    if width == 0:
        return [], norm
    if len(s) * width >= k and s.min() > _VANISHING * norm:
        branches = [(*_branches(ufm, s[i])[0], right[i], images[i] / s[i]) for i in range(count)]
    else:
        branches = _all_branches(problem, p, *spaces)
    branches.sort(key=lambda branch: branch[0])
    pairs: list[_Pair] = []
    for value, along_W, along_H, v, u in branches:
        for direction in empty.T[: k - len(pairs)]:
            vector = Point(along_W * np.outer(v, direction), along_H * np.outer(u, direction), np.zeros(problem.K))
            pairs.append(_Pair(value, vector))
        if len(pairs) == k:
            break
    return pairs, norm


def _orthonormal(X: Array) -> Array:
    """Orthonormal columns with the span of those of X; the columns of X, normalised, where these are orthogonal."""
    Q, R = np.linalg.qr(X)
    signed: Array = Q * np.sign(np.diagonal(R))
    return signed


def _all_branches(
    problem: IsometricProblem, p: Point, space_W: Array, space_H: Array
) -> list[tuple[float, float, float, Array, Array]]:
    """All eigenvalues along one empty direction, with the parts of their eigenvectors: a dense decomposition."""
    ufm = problem.ufm
    G = problem.run(problem.compiled(p.W.shape[1]).gradient_matrix, *p)
    G -= space_H @ (space_H.T @ G)
    G -= (G @ space_W) @ space_W.T
    complement_W, complement_H = (np.linalg.qr(X, mode="complete")[0][:, X.shape[1] :] for X in (space_W, space_H))
    U, s, Vt = np.linalg.svd(complement_H.T @ G @ complement_W)
    U, V = complement_H @ U, complement_W @ Vt.T
    branches = [(*branch, V[:, i], U[:, i]) for i in range(len(s)) for branch in _branches(ufm, s[i])]
    branches += [(ufm.lambda_W, 1.0, 0.0, V[:, i], np.zeros(problem.M)) for i in range(len(s), V.shape[1])]
    branches += [(ufm.lambda_H, 0.0, 1.0, np.zeros(problem.K), U[:, i]) for i in range(len(s), U.shape[1])]
    for w, h in zip(space_W.T, space_H.T, strict=True):
        branches.append((*_branches(ufm, -ufm.tau)[1], w, h))
    return branches


def _in_active_directions(
    problem: IsometricProblem,
    p: Point,
    directions: Array,
    k: int,
    tol: float,
    deflate: bool,
    max_products: int,
    seed: int,
) -> tuple[list[_Pair], int, float]:
    """The k lowest pairs among moves of the bias and of W and H along the columns of `directions`."""
    columns = directions.shape[1]
    size = problem.size(columns)
    count = min(k, size)
    start = np.random.default_rng(seed).standard_normal((count, size))
    values, vectors, _, products, largest = problem.run(
        _core.hessian_eigenpairs, problem.compiled(columns), *p, start, count, basis=3 * count + 15, tolerance=tol,
        max_products=max_products, keep=problem.keeps, deflate=deflate,
    )  # fmt: skip
    pairs = []
    for value, x in zip(values, vectors, strict=False):
        W, H, b = problem.unpack(x, columns)
        pairs.append(_Pair(float(value), Point(W @ directions.T, H @ directions.T, b)))
    return pairs, products, largest
