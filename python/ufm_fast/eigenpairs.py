"""Lowest eigenpairs of the Hessian of a model."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ._blas import single_threaded_blas
from ._isometric import GradientAt, HessianAt, IsometricProblem
from ._lowest import Lowest, lowest
from ._newton import Array
from ._warnings import ConvergenceWarning
from .model import UFM, Point, _whole_number

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
    k = _whole_number(k, "k", 1)
    if not (0 < tol < 1):
        raise ValueError(f"tol must lie in (0, 1), not {tol!r}")
    problem, generator = IsometricProblem(ufm), np.random.default_rng(seed)
    here = _split(problem, problem.coordinates(ufm._checked(p, ufm.M)), deflate)
    leading = _leading_triplets(problem, here, k, generator)
    pairs, found = _in_empty_directions(problem, here, leading, k), None
    least = _branches(ufm, leading.norm)[0].value
    bound = min(least, ufm.lambda_b) if ufm.bias else least
    if len(pairs) < k or pairs[k - 1].value > bound + 1e-12 * abs(bound):
        found = _in_active_directions(problem, here, leading, k, tol, max_products, generator)
        pairs = sorted(pairs + _pairs_of(problem, here, found), key=lambda pair: pair.value)
    pairs = pairs[:k]
    residuals = _residuals(problem, here, pairs)
    products = found.products if found else 0
    scale = max(found.norm if found else 0.0, *(abs(pair.value) for pair in pairs), ufm.lambda_W + ufm.lambda_H)
    established = leading.established and (found is None or found.established)
    _warn_unless_converged(established, products, float(residuals.max()), tol * scale)
    spread = ufm.collapse_classes and bool((ufm.counts > 1).any())
    return Eigenpairs(
        eigenvalues=np.array([pair.value for pair in pairs]),
        vectors=[problem.plain(pair.vector) for pair in pairs],
        residuals=residuals,
        products=products + len(pairs),
        deflated=here.rank * (here.rank - 1) // 2 + here.rank * (ufm.d - here.rank) if here.deflate else 0,
        within_class=ufm.lambda_H if spread else math.inf,
    )


class _Split(NamedTuple):
    """A point, with the feature space turned so that W on top of H has orthogonal columns, of descending sizes.

    `turn` has the new axes as columns, `squares` are the squared sizes of the columns of W on top of H, of which `rank`
    do not vanish. `factors` has the columns that are searched, its W and H are those of `point` times `active`; the
    columns of `empty` are the other axes, along which all vanishes. `deflate`: whether rotations are left out.
    """

    point: Point
    factors: Point
    squares: Array
    turn: Array
    rank: int
    deflate: bool
    critical: bool

    @property
    def active(self) -> Array:
        return self.turn[:, : self.factors.W.shape[1]]

    @property
    def empty(self) -> Array:
        return self.turn[:, self.factors.W.shape[1] :]


def _split(problem: IsometricProblem, point: Point, deflate: bool | None) -> _Split:
    critical = _is_critical(problem, point)
    deflate = critical if deflate is None else deflate
    squares, turn = np.linalg.eigh(point.W.T @ point.W + point.H.T @ point.H)
    squares, turn = squares[::-1], turn[:, ::-1]
    W, H = point.W @ turn, point.H @ turn
    sizes = np.hypot(np.linalg.norm(W, axis=0), np.linalg.norm(H, axis=0))
    rank = int(np.count_nonzero(sizes > _ABSENT * sizes[0])) if sizes[0] > 0 else 0
    active = max(rank, 1)
    if deflate and not critical:  # rotations couple empty directions with the others
        W[:, rank:], H[:, rank:], active = 0, 0, problem.ufm.d
    factors = Point(np.ascontiguousarray(W[:, :active]), np.ascontiguousarray(H[:, :active]), point.b)
    return _Split(point, factors, squares, turn, rank, deflate, critical)


def _residuals(problem: IsometricProblem, here: _Split, pairs: list[_Pair]) -> Array:
    compiled = problem.compiled(problem.ufm.d)
    norms = []
    for value, v in pairs:
        image = Point(*problem.run(compiled.hvp, *here.point, *v))
        residual = Point(*(x - value * y for x, y in zip(image, v, strict=True)))
        if here.deflate:
            residual = _across_rotations(here, residual)
        norms.append(math.sqrt(sum(float(np.sum(part**2)) for part in residual)))
    return np.array(norms)


def _warn_unless_converged(established: bool, products: int, residual: float, wanted: float) -> None:
    stopped = f"stopped after {products} Hessian products"
    if residual > 10 * wanted:
        message = f"{stopped} at residuals of up to {residual:.1e}, not {wanted:.1e}"
    elif not established:
        message = f"{stopped}, before the pairs were seen to be the lowest: lower ones may have been missed"
    else:
        return
    warnings.warn(message, ConvergenceWarning, stacklevel=4)


def _is_critical(problem: IsometricProblem, p: Point) -> bool:
    ufm = problem.ufm
    _, grad_W, grad_H, _ = problem.run(problem.compiled(ufm.d).loss_and_grad, *p)
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    gradient = math.hypot(rho * float(np.linalg.norm(grad_W)), float(np.linalg.norm(grad_H)) / rho)
    size = math.hypot(float(np.linalg.norm(p.W)) / rho, rho * float(np.linalg.norm(p.H)))
    return gradient <= _CRITICAL * ufm.tau * size


def _across_rotations(here: _Split, v: Point) -> Point:
    """Project v orthogonally to (W S, H S), S skew; `squares` and `turn` diagonalise M = W^T W + H^T H.

    The component is the S with M S + S M = C - C^T, C = W^T V_W + H^T V_H.
    """
    p, squares, turn = here.point, here.squares, here.turn
    C = turn.T @ (p.W.T @ v.W + p.H.T @ v.H) @ turn
    sums = np.add.outer(squares, squares)
    present = sums > _ABSENT**2 * squares[0]
    S = turn @ np.where(present, (C - C.T) / np.where(present, sums, 1.0), 0.0) @ turn.T
    return Point(v.W - p.W @ S, v.H - p.H @ S, v.b)


class _Branch(NamedTuple):
    """An eigenvalue of [[lambda_W, s], [s, lambda_H]], and its unit eigenvector."""

    value: float
    along_W: float
    along_H: float


def _branches(ufm: UFM, s: float) -> list[_Branch]:
    """Return both, ascending."""
    values, vectors = np.linalg.eigh(np.array([[ufm.lambda_W, s], [s, ufm.lambda_H]]))
    return [_Branch(float(values[i]), float(vectors[0, i]), float(vectors[1, i])) for i in range(2)]


class _Triplets(NamedTuple):
    """Largest singular values of G, descending, with right and left vectors in rows; and its norm.

    At a critical point without its rotations, of G across the column spaces of W and H. There G is -tau times an
    isometry, with which the lower eigenvalue 0 of the branch is that of rotations; the norm is that of all of G.
    """

    s: Array
    right: Array
    left: Array
    norm: float
    space_W: Array
    space_H: Array
    established: bool


def _leading_triplets(problem: IsometricProblem, here: _Split, k: int, generator: np.random.Generator) -> _Triplets:
    """As many as the k lowest pairs in empty directions may need, at least one."""
    p, deflated = here.factors, here.rank if here.deflate and here.critical else 0
    spaces = [_orthonormal(X) if deflated else X[:, :0] for X in (p.W, p.H)]
    gradient = GradientAt(problem, p, spaces[0])
    count = max(1, -(-k // max(here.empty.shape[1], 1)))
    none = np.zeros((0, problem.K))
    found = lowest(gradient, count, none, 1e-12, 50 * problem.K, generator)
    images = gradient.images(found.vectors)
    s = np.linalg.norm(images, axis=1)
    norm = max(float(s.max(initial=0.0)), problem.ufm.tau if deflated else 0.0)
    left = images / np.where(s > 0, s, 1.0)[:, None]
    return _Triplets(s, found.vectors, left, norm, *spaces, found.established)


def _in_empty_directions(problem: IsometricProblem, here: _Split, leading: _Triplets, k: int) -> list[_Pair]:
    """The k lowest pairs among moves of W and H along the empty directions."""
    width = here.empty.shape[1]
    if width == 0:
        return []
    if len(leading.s) * width >= k and leading.s.min() > _VANISHING * leading.norm:
        triplets = zip(leading.s, leading.right, leading.left, strict=True)
        branches = [(_branches(problem.ufm, s)[0], v, u) for s, v, u in triplets]
    else:
        branches = _all_branches(problem, here, leading, k)
    branches.sort(key=lambda branch: branch[0].value)
    pairs: list[_Pair] = []
    for branch, v, u in branches:
        for direction in here.empty.T[: k - len(pairs)]:
            pairs.append(_Pair(branch.value, _along(branch, v, u, direction)))
        if len(pairs) == k:
            break
    return pairs


def _along(branch: _Branch, v: Array, u: Array, direction: Array) -> Point:
    """The move of W by v and of H by u along a direction of the feature space, in the proportion of the branch."""
    W, H = (part * np.outer(x, direction) for part, x in ((branch.along_W, v), (branch.along_H, u)))
    return Point(W, H, np.zeros(len(v)))


def _orthonormal(X: Array) -> Array:
    """Orthonormal columns with the span of those of X; the columns of X, normalised, where these are orthogonal."""
    Q, R = np.linalg.qr(X)
    signed: Array = Q * np.sign(np.diagonal(R))
    return signed


def _all_branches(
    problem: IsometricProblem, here: _Split, leading: _Triplets, k: int
) -> list[tuple[_Branch, Array, Array]]:
    """All eigenvalues along one empty direction, with the parts of their eigenvectors: a dense decomposition.

    Of those that are lambda_H alone, with moves of H that do not meet G, no more than k.
    """
    ufm, space_W, space_H = problem.ufm, leading.space_W, leading.space_H
    p = here.factors
    G = problem.run(problem.compiled(p.W.shape[1]).gradient_matrix, *p)
    G -= space_H @ (space_H.T @ G)
    complement = np.linalg.qr(space_W, mode="complete")[0][:, space_W.shape[1] :]
    U, s, Vt = np.linalg.svd(G @ complement, full_matrices=False)
    V = complement @ Vt.T
    rank = int(np.count_nonzero(s > np.finfo(float).eps * max(G.shape) * leading.norm))
    branches = [(branch, V[:, i], U[:, i]) for i in range(rank) for branch in _branches(ufm, float(s[i]))]
    still_W, still_H = np.zeros(problem.K), np.zeros(problem.M)
    branches += [(_Branch(ufm.lambda_W, 1.0, 0.0), V[:, i], still_H) for i in range(rank, V.shape[1])]
    others = _others(np.hstack([space_H, U[:, :rank]]), k)
    branches += [(_Branch(ufm.lambda_H, 0.0, 1.0), still_W, u) for u in others.T]
    rotation = _branches(ufm, -ufm.tau)[1]
    branches += [(rotation, w, h) for w, h in zip(space_W.T, space_H.T, strict=True)]
    return branches


def _others(Q: Array, count: int) -> Array:
    """Return up to `count` orthonormal columns orthogonal to the orthonormal columns of Q."""
    rows, columns = Q.shape
    more = np.random.default_rng(0).standard_normal((rows, min(count, rows - columns)))
    return np.linalg.qr(np.hstack([Q, more]))[0][:, columns:]


def _in_active_directions(
    problem: IsometricProblem,
    here: _Split,
    leading: _Triplets,
    k: int,
    tol: float,
    max_products: int,
    generator: np.random.Generator,
) -> Lowest:
    """The k lowest pairs among moves of the bias and of W and H along the active directions."""
    hessian = HessianAt(problem, here.factors, here.deflate)
    known = _known_directions(problem, here, leading, k, generator)
    return lowest(hessian, k, known, tol, max_products, generator)


def _known_directions(
    problem: IsometricProblem, here: _Split, leading: _Triplets, k: int, generator: np.random.Generator
) -> Array:
    """Return flat vectors that are, or are near, low eigenvectors where theory tells some.

    A common shift of the bias, to which cross-entropy is blind; the way down that the leading pair of G gives along the
    least direction of the feature space; rotations of the features, if they are not left out.
    """
    p = here.factors
    K, M, columns = problem.K, problem.M, p.W.shape[1]
    points = []
    if problem.bias:
        points.append(Point(np.zeros((K, columns)), np.zeros((M, columns)), np.ones(K)))
    for s, v, u in zip(leading.s[:1], leading.right, leading.left, strict=False):
        points.append(_along(_branches(problem.ufm, float(s))[0], v, u, np.eye(columns)[-1]))
    if not here.deflate and columns > 1:
        for _ in range(k):
            S = generator.standard_normal((columns, columns))
            points.append(Point(p.W @ (S - S.T), p.H @ (S - S.T), np.zeros(K)))
    return np.array([problem.pack(point) for point in points]).reshape(len(points), problem.size(columns))


def _pairs_of(problem: IsometricProblem, here: _Split, found: Lowest) -> list[_Pair]:
    pairs = []
    for value, x in zip(found.values, found.vectors, strict=True):
        W, H, b = problem.unpack(x, here.factors.W.shape[1])
        pairs.append(_Pair(float(value), Point(W @ here.active.T, H @ here.active.T, b)))
    return pairs
