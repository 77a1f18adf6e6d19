"""classify: global minimum, strict saddle, or neither, and the way down from a saddle."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from .._certify.certificate import Certificate, certificate_of, certify, in_double
from .._certify.dual import Dual
from .._model.canonical import ClassProblem
from .._model.model import UFM, Point
from .._numerics.gram_spectra import common_rank, leading_pair, leading_pairs
from .._runtime.arguments import real_number
from .._runtime.blas import fitting_threads, gram, product, single_threaded_blas
from .._runtime.threads import concurrently
from .._runtime.warnings import ConvergenceWarning
from .eigenpairs import lowest_eigenpairs

Array: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["global_minimum", "strict_saddle", "local_minimum", "not_critical", "undecided"]

_AGREEMENT = 1e-6
_CURVATURE_FACTOR = 100
_PLANE_TOLERANCE = 1e-3
_NEGLIGIBLE = 1e-12
_CURVATURE = {"cross_entropy": 0.5, "mse": 1.0}  # the largest of one sample's loss in its logits


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
def classify(ufm: UFM, p: Point, *, gradient_tol: float = 1e-6, certificate_tol: float = 1e-8) -> CriticalPoint:
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

    Notes
    -----
    With s = |G|_2, the lowest eigenvalue is at least min(L, lambda_b) at any point (at least L without bias),

        L = (lambda_W + lambda_H)/2 - sqrt((lambda_W - lambda_H)^2/4 + s^2),

    because the data term's Hessian is positive in the logits and <G, dW dH> is at most s |dW| |dH|. L is attained
    where some unit a has W a = 0 and H a = 0, by dW = alpha u a^T, dH = beta v a^T with u, v the leading singular
    vectors of G and (alpha, beta) the lower eigenvector of [[lambda_W, s], [s, lambda_H]]. Elsewhere the curvatures of
    that direction (a the least common singular vector), of a rotation of the features and, for cross-entropy, of a
    common shift of the bias bound the lowest eigenvalue from above.

    Always in float64. No full eigendecomposition is needed where p is clearly no global minimum, which a lower bound
    N (s - tau)^2 / (2 c) on the gap shows (c/N bounds the curvature of the data term in the logits; c = 1/2 for
    cross-entropy, 1 for squared error): s comes from Lanczos and a Cholesky factorisation that confirms it, the rank
    and a from an indefinite factorisation. That costs about six K x d x M products; elsewhere `certify` is added,
    and a Hessian product where there is no null direction. No M x K array is formed where H has a row a sample.
    `lowest_eigenpairs` takes up to thousands of Hessian products.
    """
    gradient_tol = real_number(gradient_tol, "gradient_tol", above=0)
    certificate_tol = real_number(certificate_tol, "certificate_tol", above=0)
    dtype = ufm.dtype
    ufm, p = in_double(ufm, p)
    threads = fitting_threads(ufm.K, ufm.threads)
    unit = 2 * ufm.lambda_W * ufm.lambda_H / (ufm.lambda_W + ufm.lambda_H)
    here = _linearized(ufm, p, threads)
    gradient_norm = math.hypot(*(float(scipy.linalg.norm(part.ravel())) for part in here.gradient))
    size = max(here.norm, ufm.tau) * math.sqrt(float(np.trace(here.gram)) + ufm.N)
    curvature, pair = _descent(ufm, p, here, _NEGLIGIBLE * unit)
    lower = _lower_bound(ufm, here)
    upper = curvature
    if ufm.bias and ufm.loss_function.name == "cross_entropy":
        upper = min(upper, ufm.lambda_b)
    agreement = _AGREEMENT * max(abs(lower), unit)
    if upper - lower > agreement:
        _, plane, _ = leading_pairs(here.gram, min(2, ufm.d), _PLANE_TOLERANCE, threads)
        upper = min(upper, _rotation_curvature(here, plane.T))
    certificate = _certificate(ufm, p, here, certificate_tol)

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
    return CriticalPoint(
        kind=kind,
        gradient_norm=gradient_norm,
        relative_gradient_norm=gradient_norm / size,
        rank=here.rank,
        lowest_eigenvalue=exact,
        lowest_eigenvalue_bounds=(lower, upper),
        direction=Point(*(part.astype(dtype, copy=False) for part in pair)) if kind == "strict_saddle" else None,
        certificate=certificate,
    )


def covered(ufm: UFM) -> bool:
    """Whether every critical point of a model is known to be a global minimum or a strict saddle.

    So it is with d >= K for any convex loss, and with d = K - 1 where the rank of a critical point cannot exceed K - 1:
    for cross-entropy, and for squared error with a bias without decay (Gu and Shen 2024, arXiv:2407.10702, for d = K).
    """
    centred = ufm.loss_function.name == "cross_entropy" or (ufm.bias and ufm.lambda_b == 0)
    return ufm.loss_function.convex and ufm.d >= (ufm.K - 1 if centred else ufm.K)


def _search(ufm: UFM, p: Point, margin: float) -> tuple[Kind, float, Point] | None:
    """Ask the eigen-solver for kind, lowest eigenvalue and its vector at a critical point; None if it stops short."""
    free_shift = ufm.bias and ufm.lambda_b == 0 and ufm.loss_function.name == "cross_entropy"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
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


class _Linearized(NamedTuple):
    """A point in canonical coordinates, A (K, d) and B (M, d), and what was computed there.

    Loss, gradient, and of the gradient matrix G: |G|_2, its singular vectors, and the matrix (K, K) of the class means
    with its norm. Then what `common_rank` gives.
    """

    A: Array
    B: Array
    rho: float
    loss: float
    gradient: tuple[Array, Array, Array]
    norm: float
    right: Array
    left: Array
    of_classes: Array
    class_norm: float
    rank: int
    null: Array
    gram: Array


def _linearized(ufm: UFM, p: Point, threads: int) -> _Linearized:
    """Evaluate and factorise, what can be done at the same time on threads of our own: BLAS must have one here."""
    q, each = ClassProblem(ufm), max(1, threads // 2)
    A, B, b = q.coordinates(p)
    if not ufm.collapse_classes:
        return _linearized_samples(ufm, p, q, (A, B, b), threads)
    loss, G, flat = q.evaluate(A, B, b, product(B, A.T, threads))
    half = A.size
    gradient = flat[:half].reshape(A.shape), flat[half : 2 * half].reshape(B.shape), flat[2 * half :]
    ranks, (square, right) = concurrently(
        [lambda: common_rank(A, B, q.N / q.K, each), lambda: leading_pair(gram(G, each), each)], threads
    )
    norm, left = math.sqrt(square), _unit(G @ right)
    return _Linearized(A, B, q.rho, loss, gradient, norm, right, left, G, norm, *ranks)


def _linearized_samples(ufm: UFM, p: Point, q: ClassProblem, means: tuple[Array, ...], threads: int) -> _Linearized:
    loss, (gW, gH, gb) = ufm.loss_and_grad(p)
    A, B, b = means
    _, of_classes, _ = q.data_term(product(B, A.T, threads), b)
    class_norm = math.sqrt(leading_pair(gram(of_classes, threads), threads)[0])
    square, right = leading_pair(ufm._run(ufm._problem.gradient_gram, *p), threads)
    left = ufm._run(ufm._problem.gradient_product, *p, np.ascontiguousarray(right[:, None]))[:, 0]
    B = p.H * q.rho
    ranks = common_rank(A, B, q.N / q.K, threads)
    gradient = gW * q.rho, gH / q.rho, gb
    norm = math.sqrt(square)
    return _Linearized(A, B, q.rho, loss, gradient, norm, right, _unit(left), of_classes, class_norm, *ranks)


def _unit(vector: Array) -> Array:
    """Return the vector over its length; the first coordinate vector for zero."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else np.eye(1, len(vector))[0]


def _certificate(ufm: UFM, p: Point, here: _Linearized, tol: float) -> Certificate:
    """Certify a point, at the least cost if it cannot be within tol of the global minimum.

    A step along the leading pair of G, singular value (s - tau) N / c, lowers the convex problem in the logits by
    N (s - tau)^2 / (2 c), where c / N bounds the curvature of the data term.
    """
    s, c = here.class_norm, _CURVATURE[ufm.loss_function.name]
    if ufm.N * max(0.0, s - ufm.tau) ** 2 / (2 * c) <= tol * abs(here.loss):
        return certify(ufm, p)
    q = ClassProblem(ufm)
    lower_bound = Dual(q).scaled_bound(here.of_classes, s)
    return certificate_of(here.loss, q.rounding(here.A, here.B, p.b, here.loss), lower_bound, s, ufm.tau)


def _descent(ufm: UFM, p: Point, here: _Linearized, negligible: float) -> tuple[float, Point]:
    """Return the unit direction (alpha u a^T, beta v a^T, 0) of least curvature for the null direction a.

    And a bound from above on its curvature. Where a is not quite null, logits move to first order: what that adds is
    bounded if it is negligible, otherwise a Hessian product tells.
    """
    s, a, root = here.norm, here.null, np.sqrt(ufm._samples)
    _, mixture = np.linalg.eigh([[ufm.lambda_W, s], [s, ufm.lambda_H]])
    alpha, beta = mixture[:, 0]
    pair = Point(np.outer(alpha * here.right, a), np.outer(beta * here.left / root, a), np.zeros(ufm.K))
    moved = abs(alpha) * np.linalg.norm(here.B @ a) / here.rho + abs(beta) * np.linalg.norm(here.A @ a) * here.rho
    first_order = _CURVATURE[ufm.loss_function.name] / ufm.N * float(moved) ** 2
    if first_order <= negligible:
        return _least(ufm, s) + first_order, pair
    return sum(float(np.vdot(v, Hv)) for v, Hv in zip(pair, ufm.hvp(p, pair), strict=True)), pair


def _least(ufm: UFM, s: float) -> float:
    """Return the lower eigenvalue of [[lambda_W, s], [s, lambda_H]], without cancellation."""
    mean, half = (ufm.lambda_W + ufm.lambda_H) / 2, (ufm.lambda_W - ufm.lambda_H) / 2
    return (ufm.tau - s) * (ufm.tau + s) / (mean + math.hypot(half, s))


def _lower_bound(ufm: UFM, here: _Linearized) -> float:
    """Return a lower bound on the Hessian's lowest eigenvalue: see `classify`."""
    least = _least(ufm, here.norm)
    if not ufm.bias:
        return least
    if ufm.loss_function.name == "cross_entropy":
        return min(least, ufm.lambda_b)
    # Squared error curves along the bias by 1 + lambda_b, less what the first-order change of W H can undo.
    length = math.hypot(np.linalg.norm(here.A) * here.rho, np.linalg.norm(here.B) / here.rho)
    mean, half = (least + 1 + ufm.lambda_b) / 2, (least - 1 - ufm.lambda_b) / 2
    return max(min(least, ufm.lambda_b), mean - math.hypot(half, length / math.sqrt(ufm.N)))


def _rotation_curvature(here: _Linearized, plane: Array) -> float:
    """Rayleigh quotient of rotating all features in a plane: f is constant on the circle, so the gradient gives it."""
    if plane.shape[1] < 2:
        return math.inf
    A, B = here.A @ plane, here.B @ plane
    length = here.rho**2 * np.vdot(A, A) + np.vdot(B, B) / here.rho**2
    slope = np.vdot(here.gradient[0] @ plane, A) + np.vdot(here.gradient[1] @ plane, B)
    return float(slope / length) if length > 0 else math.inf
