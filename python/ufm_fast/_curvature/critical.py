"""classify: global minimum, strict saddle, or neither, and the way down from a saddle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import scipy.linalg

from .._certify.certificate import Certificate, certifiable, certificate_at, quick_certificate_at
from .._certify.linearization import Linearization, linearized, loss_at, rounding_at
from .._model.canonical import CanonicalProblem
from .._model.facts import branches_of, checked_model, covered, curvature_unit, lower_branch
from .._model.functions import gradient_gram, gradient_product
from .._model.model import UFM
from .._model.narrowed import narrowed, widened
from .._model.point import Point
from .._numerics.gram_spectra import common_rank, leading_pair, leading_pairs, leading_singular_pair
from .._runtime.arguments import real_number
from .._runtime.arrays import Array
from .._runtime.blas import fitting_threads, product, single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.threads import concurrently
from .._runtime.warnings import held_convergence_warnings
from .eigenpairs import lowest_eigenpairs

Kind: TypeAlias = Literal["global_minimum", "strict_saddle", "local_minimum", "not_critical", "undecided"]

GRADIENT_TOLERANCE, CERTIFICATE_TOLERANCE = 1e-6, 1e-8  # of `classify`, unless others are given

_AGREEMENT = 1e-6
_CURVATURE_FACTOR = 100
_PLANE_TOLERANCE = 1e-3
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class CriticalPoint:
    """What `classify` found at a point. Norms, eigenvalues and the direction are those of the full-sample problem.

    Attributes
    ----------
    kind : {"global_minimum", "strict_saddle", "local_minimum", "not_critical", "undecided"}
    gradient_norm : float
        In canonical coordinates W / rho, rho h_i, b with rho = (lambda_H / lambda_W)^(1/4), where both decays are tau.
    relative_gradient_norm : float
        The same over the size of the terms that cancel in a gradient, ``max(|G|_2, tau) sqrt(|A|^2 + |B|^2 + N)``, in
        the same coordinates, with A the classifier, B the features, and N the squared norm of the bias's constant
        feature. Finite and meaningful also at and around W = H = 0.
    rank : int
        Number of common singular values of W and H (of A stacked on B) above 1e-6 times the largest of them and
        ``(N/K)^(1/4)``, the size at which a direction moves logits by order 1.
    lowest_eigenvalue : float
        Of the Hessian in the coordinates (W, h_i, b); NaN where the two bounds differ by more than 1e-6 of the larger
        of its size and 2 lambda_W lambda_H / (lambda_W + lambda_H), and `lowest_eigenpairs` was not asked or stopped
        short. Its answer is proven for small problems only, and for others the lowest that a search has found.
    lowest_eigenvalue_bounds : tuple of float
        A lower and an upper bound on it, valid at every point, critical or not.
    direction : Point or None
        At a strict saddle, a unit direction of negative curvature: ``|W|^2 + sum_i |h_i|^2 + |b|^2 = 1`` over all
        samples (a collapsed row counts n_k times). Where it is not from an eigen-solver, the logits do not move along
        it to first order.
    certificate : Certificate
        That of `certify`, or where |G|_2 is so far above tau that p cannot be within certificate_tol of the global
        minimum, only the cheapest of its bounds.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> found = uf.classify(ufm, uf.saddle(ufm, rank=2))
    >>> lower, upper = found.lowest_eigenvalue_bounds
    >>> lower <= found.lowest_eigenvalue <= upper < 0
    True
    """

    kind: Kind
    gradient_norm: float
    relative_gradient_norm: float
    rank: int
    lowest_eigenvalue: float
    lowest_eigenvalue_bounds: tuple[float, float]
    direction: Point | None
    certificate: Certificate


@single_threaded_blas()
def classify(
    ufm: UFM,
    p: Point,
    *,
    gradient_tol: float = GRADIENT_TOLERANCE,
    certificate_tol: float = CERTIFICATE_TOLERANCE,
) -> CriticalPoint:
    """Say what kind of point p is: mostly from one gradient and a few factorisations.

    With a convex loss and d >= K - 1 (squared error with a decayed or no bias: d >= K) every critical point is a global
    minimum or a strict saddle (Gu & Shen 2024, arXiv:2407.10702, for d = K), and the spectral norm of the gradient
    matrix G tells which. The kinds:

    * ``global_minimum``: the certificate's relative gap is at most ``certificate_tol``, critical or not.
    * ``not_critical``: otherwise, if the relative gradient norm exceeds ``gradient_tol``.
    * ``strict_saddle``: otherwise, if the curvature along the direction of `CriticalPoint.direction` is below
      ``-100 gradient_tol`` in units of ``2 lambda_W lambda_H / (lambda_W + lambda_H)``.
    * ``local_minimum``: otherwise, if d is too small for the theorem (see `covered`) and `lowest_eigenpairs` finds all
      curvatures above 100 gradient_tol of these units, but for rotations of the features and free shifts of the bias.
      It is spurious, or the global minimum for this d, which no certificate reaches. Where `lowest_eigenpairs` finds
      one below -100 gradient_tol, the point is a ``strict_saddle`` and the direction its eigenvector.
    * ``undecided``: critical, but nothing is shown.

    Parameters
    ----------
    ufm : UFM
    p : Point
        As for `UFM.loss`.
    gradient_tol, certificate_tol : float, optional
        Positive.

    Returns
    -------
    CriticalPoint

    Raises
    ------
    TypeError, ValueError
        As for `certify`, or if a tolerance is not positive and finite.
    MemoryError
        As for `certify`: here it holds about 25 K x K and 14 K x d arrays.

    Notes
    -----
    With s = |G|_2, the lowest eigenvalue is at least min(L, lambda_b) at any point (at least L without bias),

        L = (lambda_W + lambda_H)/2 - sqrt((lambda_W - lambda_H)^2/4 + s^2),

    because the data term's Hessian is positive in the logits and <G, dW dH> is at most s |dW| |dH|. L is attained
    where some unit a has W a = 0 and H a = 0, by dW = alpha u a^T, dH = beta v a^T with u, v the leading singular
    vectors of G and (alpha, beta) the lower eigenvector of [[lambda_W, s], [s, lambda_H]]. Elsewhere the curvatures of
    that direction (a the least common singular vector), of a rotation of the features and, for cross-entropy, of a
    shift of the bias along the direction that the loss does not feel bound the lowest eigenvalue from above.

    Always in float64. No full eigendecomposition is needed where p is clearly no global minimum, which a lower bound
    N (s - tau)^2 / (2 c) on the gap shows (c/N bounds the curvature of the data term in the logits; c = 1/2 for
    cross-entropy, 1 for squared error): s comes from Lanczos and a Cholesky factorisation that confirms it, the rank
    and a from an indefinite factorisation. That costs about six K x d x M products; elsewhere `certify` is added,
    and a Hessian product where there is no null direction. Where d is far above K + M, a QR decomposition of
    d x (K + M) comes first, and nothing is d x d. No M x K array is formed where H has a row a sample.
    `lowest_eigenpairs` takes up to thousands of Hessian products.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> import numpy as np
    >>> found = uf.classify(ufm, ufm.unpack(np.zeros(ufm.size)))
    >>> found.kind, found.rank, found.lowest_eigenvalue < 0
    ('strict_saddle', 0, True)
    """
    ufm = checked_model(ufm)
    K, M, d = ufm.layout.K, ufm.M if ufm.collapse_classes else ufm.K, ufm.d
    require_memory("classify", 25 * M * K + 7 * (M + K) * d, K=ufm.K, M=M, d=d)
    gradient_tol = real_number(gradient_tol, "gradient_tol", above=0)
    certificate_tol = real_number(certificate_tol, "certificate_tol", above=0)
    return classified(ufm, p, gradient_tol, certificate_tol)[0]


def classified(ufm: UFM, p: Point, gradient_tol: float, certificate_tol: float) -> tuple[CriticalPoint, Linearization]:
    """Return what `classify` finds, and the linearisation from which `certificate_at` goes on."""
    dtype = ufm.dtype
    given = certifiable(ufm, p)
    ufm, p, axes = narrowed(*given, spare=1)
    threads = fitting_threads(ufm.K, ufm.threads)
    unit = curvature_unit(ufm)
    here = _surroundings(ufm, p, threads)
    if axes is not None:
        loss, rounding = loss_at(*given)
        here = here._replace(means=here.means._replace(loss=loss, rounding=rounding))
    gradient_norm = math.hypot(*(float(scipy.linalg.norm(part.ravel())) for part in here.gradient))
    size = max(here.norm, ufm.tau) * math.sqrt(float(np.trace(here.gram)) + here.means.problem.samples)
    curvature, pair = _descent(ufm, p, here, _NEGLIGIBLE * unit)
    lower = _lower_bound(ufm, here)
    upper = curvature
    if ufm.bias and ufm.loss_function.invariant_direction(ufm.K) is not None:
        upper = min(upper, ufm.lambda_b)
    agreement = _AGREEMENT * max(abs(lower), unit)
    if upper - lower > agreement:
        _, plane, _ = leading_pairs(here.gram, min(2, ufm.d), _PLANE_TOLERANCE, threads)
        upper = min(upper, _rotation_curvature(ufm, here, plane.T))
    lower, upper = min(lower, upper), max(lower, upper)  # equal, but for rounding, where they cross
    certificate = _certificate(here.means, certificate_tol)

    exact = lower if upper - lower <= agreement else math.nan
    kind: Kind = "undecided"
    margin = _CURVATURE_FACTOR * gradient_tol * unit
    if certificate.is_global(certificate_tol):
        kind = "global_minimum"
    elif gradient_norm > gradient_tol * size:
        kind = "not_critical"
    else:
        if curvature < -margin:
            kind = "strict_saddle"
        if math.isnan(exact) and not covered(ufm):
            kind, exact, pair = _search(ufm, p, margin) or (kind, exact, pair)
            upper = upper if math.isnan(exact) else max(lower, min(upper, exact))
    critical = CriticalPoint(
        kind=kind,
        gradient_norm=gradient_norm,
        relative_gradient_norm=gradient_norm / size,
        rank=here.rank,
        lowest_eigenvalue=exact,
        lowest_eigenvalue_bounds=(lower, upper),
        direction=widened(pair, axes, dtype) if kind == "strict_saddle" else None,
        certificate=certificate,
    )
    return critical, here.means


def _search(ufm: UFM, p: Point, margin: float) -> tuple[Kind, float, Point] | None:
    """Ask the eigen-solver for kind, lowest eigenvalue and its vector at a critical point; None if it stops short."""
    free_shift = ufm.bias and ufm.lambda_b == 0 and ufm.loss_function.invariant_direction(ufm.K) is not None
    with held_convergence_warnings() as caught:
        across = lowest_eigenpairs(ufm, p, 2 if free_shift else 1, deflate=True)
        saddle = across.eigenvalues[0] < -margin
        # Rotations curve only by what is left of the gradient, but that may be lower than all else.
        found = lowest_eigenpairs(ufm, p, deflate=False) if across.deflated and not saddle else across
    if caught:
        return None
    lowest, vector = float(found.eigenvalues[0]), found.vectors[0]
    if saddle:
        return "strict_saddle", lowest, vector
    return "local_minimum" if across.eigenvalues[-1] > margin else "undecided", lowest, vector


class _Surroundings(NamedTuple):
    """What was computed at a point: its linearisation (at class means, if it has a row a sample); and of the point.

    The features B (M, d) in canonical coordinates and the gradient in these; |G|_2 and its singular vectors; and what
    `common_rank` gives: rank, a null direction, and a Gram matrix.
    """

    means: Linearization
    B: Array
    gradient: tuple[Array, Array, Array]
    norm: float
    right: Array
    left: Array
    rank: int
    null: Array
    gram: Array


def _surroundings(ufm: UFM, p: Point, threads: int) -> _Surroundings:
    """Evaluate and factorise, what can be done at the same time on threads of our own: BLAS must have one here."""
    if not ufm.collapse_classes:
        return _surroundings_of_samples(ufm, p, threads)
    problem, each = CanonicalProblem(ufm), max(1, threads // 2)
    A, B, b = problem.coordinates(p)
    loss, G, flat = problem.evaluate(A, B, b, product(B, A.T, threads))
    ranks, (norm, right) = concurrently(
        [lambda: common_rank(A, B, problem.samples / ufm.K, each), lambda: leading_singular_pair(G, each)], threads
    )
    means = Linearization(problem, A, B, b, loss, rounding_at(problem, p, A, B, b, loss), G, norm, right)
    gradient = flat[: A.size].reshape(A.shape), flat[A.size : A.size + B.size].reshape(B.shape), flat[A.size + B.size :]
    return _Surroundings(means, B, gradient, norm, right, _unit(G @ right), *ranks)


def _surroundings_of_samples(ufm: UFM, p: Point, threads: int) -> _Surroundings:
    means = linearized(ufm, p)
    _, (grad_W, grad_H, grad_b) = ufm.loss_and_grad(p)
    square, right = leading_pair(gradient_gram(ufm, p), threads)
    left = gradient_product(ufm, p, np.ascontiguousarray(right[:, None]))[:, 0]
    B = p.H * ufm.rho
    ranks = common_rank(means.A, B, means.problem.samples / ufm.K, threads)
    gradient = grad_W * ufm.rho, grad_H / ufm.rho, grad_b
    return _Surroundings(means, B, gradient, math.sqrt(square), right, _unit(left), *ranks)


def _unit(vector: Array) -> Array:
    """Return the vector over its length; the first coordinate vector for zero."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else np.eye(1, len(vector))[0]


def _certificate(means: Linearization, tol: float) -> Certificate:
    """Certify a point, at the least cost if it cannot be within tol of the global minimum.

    A step along the leading pair of G, singular value s, by (s - tau) / c lowers the convex problem in the logits by
    (s - tau)^2 / (2 c), where c bounds the curvature of the data term in the scores.
    """
    problem = means.problem
    c = problem.loss.curvature * problem.largest_ratio
    if max(0.0, means.norm - problem.tau) ** 2 / (2 * c) <= tol * abs(means.loss):
        return certificate_at(means)
    return quick_certificate_at(means)


def _descent(ufm: UFM, p: Point, here: _Surroundings, negligible: float) -> tuple[float, Point]:
    """Return the unit direction (alpha u a^T, beta v a^T, 0) of least curvature for the null direction a.

    And a bound from above on its curvature. Where a is not quite null, logits move to first order: what that adds is
    bounded if it is negligible, otherwise a Hessian product tells.
    """
    s, a, root = here.norm, here.null, np.sqrt(ufm.data.ridges)
    _, alpha, beta = branches_of(ufm, s)[0]
    pair = Point(np.outer(alpha * here.right, a), np.outer(beta * here.left / root, a), np.zeros(ufm.layout.biases))
    moved = abs(alpha) * np.linalg.norm(here.B @ a) / ufm.rho + abs(beta) * np.linalg.norm(here.means.A @ a) * ufm.rho
    first_order = ufm.loss_function.curvature * here.means.problem.largest_ratio * float(moved) ** 2
    if first_order <= negligible:
        return lower_branch(ufm, s) + first_order, pair
    return sum(float(np.vdot(v, Hv)) for v, Hv in zip(pair, ufm.hvp(p, pair), strict=True)), pair


def _lower_bound(ufm: UFM, here: _Surroundings) -> float:
    """Return a lower bound on the Hessian's lowest eigenvalue: see `classify`."""
    least = lower_branch(ufm, here.norm)
    if not ufm.bias:
        return least
    curvature = ufm.loss_function.least_curvature * float(here.means.problem.weights.sum())
    if curvature == 0:
        return min(least, ufm.lambda_b)
    # The loss curves along the bias by at least that, less what the first-order change of W H can undo.
    length = math.hypot(np.linalg.norm(here.means.A) * ufm.rho, np.linalg.norm(here.B) / ufm.rho)
    along = curvature + ufm.lambda_b
    mean, half = (least + along) / 2, (least - along) / 2
    coupling = ufm.loss_function.least_curvature * math.sqrt(here.means.problem.largest_ratio) * length
    return max(min(least, ufm.lambda_b), mean - math.hypot(half, coupling))


def _rotation_curvature(ufm: UFM, here: _Surroundings, plane: Array) -> float:
    """Rayleigh quotient of rotating all features in a plane: f is constant on the circle, so the gradient gives it."""
    if plane.shape[1] < 2:
        return math.inf
    A, B = here.means.A @ plane, here.B @ plane
    length = ufm.rho**2 * np.vdot(A, A) + np.vdot(B, B) / ufm.rho**2
    slope = np.vdot(here.gradient[0] @ plane, A) + np.vdot(here.gradient[1] @ plane, B)
    return float(slope / length) if length > 0 else math.inf
