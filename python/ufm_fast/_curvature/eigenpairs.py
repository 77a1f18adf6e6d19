"""Lowest eigenpairs of the Hessian of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .._model.facts import branches_of, checked_model
from .._model.isometric import HessianAt, IsometricProblem
from .._model.model import UFM
from .._model.narrowed import narrowed, widened
from .._model.point import Point, checked_point
from .._model.rotations import ABSENT
from .._numerics.lowest import Lowest, lowest
from .._runtime.arguments import flag, real_number, whole_number
from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.warnings import warn
from .empty_directions import (
    Pair,
    Split,
    Triplets,
    along,
    in_empty_directions,
    leading_triplets,
    split_at,
)

_PRODUCTS = 20_000
_WORTH = 1.1  # see `narrowed`: an eigendecomposition of d x d is saved


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

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> found = uf.lowest_eigenpairs(ufm, uf.global_minimum(ufm).point, k=1)
    >>> found.deflated, bool(found.residuals[0] < 1e-8)
    (10, True)
    """

    eigenvalues: Array
    vectors: list[Point]
    residuals: Array
    products: int
    deflated: int
    within_class: float


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
    most lambda_b. So at a saddle the first pairs need singular vectors of G only (theory of the landscape: Gu and Shen
    2024, arXiv:2407.10702). For the rest, up to 400 coordinates (K + M) r + K at rank r, the Hessian is made and
    decomposed. Beyond that its pairs are searched by a preconditioned block Davidson method on Hessian products, from
    directions that theory knows to be low and random ones, and then checked: see Notes.

    Parameters
    ----------
    ufm : UFM
    p : Point
        As for `UFM.loss`.
    k : int, optional
        How many, with multiplicity.
    tol : float, optional
        Residual norms wanted in a search, relative to the largest |eigenvalue| met. An eigenvalue of the Hessian is no
        further from one returned than its residual, and much nearer where others are further away.
    deflate : bool, optional
        Whether to search only orthogonally to the rotations of the feature space (W S, H S), S skew. They are null
        vectors at a critical point, r (r - 1)/2 + r (d - r) in number at rank r, and would be the lowest pairs of a
        minimum. None stands for True where the gradient is at most 1e-6 of tau |(W, H)| in canonical coordinates.
        Elsewhere, True gives the eigenvalues of the Hessian's compression to the complement.
    max_products : int, optional
        Hessian products after which to stop; a decomposition is not begun if it needs more.
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
    MemoryError
        If there is less memory than a search asks for.

    Warns
    -----
    ConvergenceWarning
        If the search ended before all residuals were small enough, as by `max_products`, or before the check.

    Notes
    -----
    That no lower eigenvalue was missed is certain, but for rounding, where the Hessian was decomposed and where all
    pairs attain the bound above with K <= 400 (G is decomposed then). The check of a search is another one from fresh
    random vectors that are orthogonal to what was found: at least 30 products or a fifth of those so far, unless the
    next pair is seen sooner to lie above. Nothing lower that came up in it is strong evidence and no proof, and none at
    all against eigenvalues that are lower by less than about sqrt(size) tol of the largest.

    Always in float64. A Hessian product costs six or seven K x r x M products. Memory: about 10 k + 90 vectors of
    (K + M) r numbers, and one M x K array where a quarter of the free memory holds it; about 8 d x d arrays before, of
    no more than about K + M features whatever d is.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> found = uf.lowest_eigenpairs(ufm, uf.saddle(ufm, rank=2), k=2)
    >>> bool((found.eigenvalues < 0).all())
    True
    """
    ufm = checked_model(ufm)
    k, tol = whole_number(k, "k", 1), real_number(tol, "tol", above=0, below=1)
    max_products, seed = whole_number(max_products, "max_products", 1), whole_number(seed, "seed", 0)
    deflate = None if deflate is None else flag(deflate, "deflate")
    given, generator = ufm, np.random.default_rng(seed)
    ufm, p, axes = narrowed(ufm, checked_point(p, ufm.layout, ufm.dtype), spare=k, worth=_WORTH)
    size = (len(p.W) + len(p.H)) * ufm.d
    require_memory("lowest_eigenpairs", 8 * ufm.d**2 + 6 * size, K=ufm.K, M=ufm.M, d=ufm.d)
    problem = IsometricProblem(ufm)
    here = split_at(problem, problem.coordinates(p), deflate)
    leading = leading_triplets(problem, here, k, generator)
    pairs, found = in_empty_directions(problem, here, leading, k), None
    least = branches_of(ufm, leading.norm)[0].value
    bound = min(least, ufm.lambda_b) if ufm.bias else least
    if len(pairs) < k or pairs[k - 1].value > bound + 1e-12 * abs(bound):
        coordinates = (ufm.layout.K + ufm.M) * here.rank
        require_memory("lowest_eigenpairs", (90 + 10 * k) * coordinates, K=ufm.K, M=ufm.M, d=ufm.d, rank=here.rank, k=k)
        found = _in_active_directions(problem, here, leading, k, tol, max_products, generator)
        pairs = sorted(pairs + _pairs_of(problem, here, found), key=lambda pair: pair.value)
    pairs = pairs[:k]
    residuals = _residuals(problem, here, pairs)
    products = found.products if found else 0
    scale = max(found.norm if found else 0.0, *(abs(pair.value) for pair in pairs), ufm.lambda_W + ufm.lambda_H)
    established = leading.established and (found is None or found.established)
    _warn_unless_converged(established, products, float(residuals.max()), tol * scale)
    spread = ufm.counts is not None and ufm.collapse_classes and bool((ufm.counts > 1).any())
    return Eigenpairs(
        eigenvalues=np.array([pair.value for pair in pairs]),
        vectors=[widened(problem.plain(pair.vector), axes, given.dtype) for pair in pairs],
        residuals=residuals,
        products=products + len(pairs),
        deflated=here.rank * (here.rank - 1) // 2 + here.rank * (given.d - here.rank) if here.deflate else 0,
        within_class=ufm.lambda_H if spread else math.inf,
    )


def _residuals(problem: IsometricProblem, here: Split, pairs: list[Pair]) -> Array:
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
    warn(message)


def _across_rotations(here: Split, v: Point) -> Point:
    """Project v orthogonally to (W S, H S), S skew; `squares` and `turn` diagonalise M = W^T W + H^T H.

    The component is the S with M S + S M = C - C^T, C = W^T V_W + H^T V_H.
    """
    p, squares, turn = here.point, here.squares, here.turn
    C = turn.T @ (p.W.T @ v.W + p.H.T @ v.H) @ turn
    sums = np.add.outer(squares, squares)
    present = sums > ABSENT**2 * squares[0]
    S = turn @ np.where(present, (C - C.T) / np.where(present, sums, 1.0), 0.0) @ turn.T
    return Point(v.W - p.W @ S, v.H - p.H @ S, v.b)


def _in_active_directions(
    problem: IsometricProblem,
    here: Split,
    leading: Triplets,
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
    problem: IsometricProblem, here: Split, leading: Triplets, k: int, generator: np.random.Generator
) -> Array:
    """Return flat vectors that are, or are near, low eigenvectors where theory tells some.

    Shifts of the logits, by the bias and by W, along the direction that the loss does not feel, or in common; the way
    down that the leading pair of G gives along the least direction of the feature space; rotations of the features, if
    not left out.
    """
    p = here.factors
    K, M, columns = problem.K, problem.M, p.W.shape[1]
    still = Point(np.zeros((K, columns)), np.zeros((M, columns)), np.zeros(problem.biases))
    shifts = generator.standard_normal((min(k, columns), columns))
    direction = problem.ufm.loss_function.invariant_direction(K)
    direction = np.ones(K) if direction is None else direction
    points = [still._replace(W=np.outer(direction, shift)) for shift in shifts]
    if problem.bias:
        points.append(still._replace(b=direction if problem.biases == K else np.ones(problem.biases)))
    for s, v, u in zip(leading.s[:1], leading.right, leading.left, strict=False):
        points.append(along(branches_of(problem.ufm, float(s))[0], v, u, np.eye(columns)[-1], problem.biases))
    if not here.deflate and columns > 1:
        for _ in range(k):
            S = generator.standard_normal((columns, columns))
            points.append(still._replace(W=p.W @ (S - S.T), H=p.H @ (S - S.T)))
    return np.array([problem.layout(columns).pack(*point) for point in points]).reshape(
        len(points), problem.layout(columns).size
    )


def _pairs_of(problem: IsometricProblem, here: Split, found: Lowest) -> list[Pair]:
    pairs = []
    for value, x in zip(found.values, found.vectors, strict=True):
        W, H, b = problem.layout(here.factors.W.shape[1]).unpack(x)
        pairs.append(Pair(float(value), Point(W @ here.active.T, H @ here.active.T, b)))
    return pairs
