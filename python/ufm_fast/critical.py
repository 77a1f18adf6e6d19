"""classify: global minimum, strict saddle, or neither, and the way down from a saddle."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._blas import fitting_blas
from ._classes import ClassProblem
from ._warnings import ConvergenceWarning
from .certificate import Certificate, certify, in_double
from .eigenpairs import lowest_eigenpairs
from .model import UFM, Point

Array: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["global_minimum", "strict_saddle", "local_minimum", "not_critical", "undecided"]

_RANK_TOLERANCE = 1e-6
_AGREEMENT = 1e-6
_CURVATURE_FACTOR = 100


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
        of its size and 2 lambda_W lambda_H / (lambda_W + lambda_H), and no eigen-solver was asked.
    lowest_eigenvalue_bounds : tuple of float
        A lower and an upper bound on it, valid at every point, critical or not.
    direction : Point or None
        At a strict saddle, a unit direction of negative curvature: ``|W|^2 + sum_i |h_i|^2 + |b|^2 = 1`` over all
        samples (a collapsed row counts n_k times). Where it is not from an eigen-solver, the logits do not move along
        it to first order.
    certificate : Certificate
    """

    kind: Kind
    gradient_norm: float
    relative_gradient_norm: float
    rank: int
    lowest_eigenvalue: float
    lowest_eigenvalue_bounds: tuple[float, float]
    direction: Point | None
    certificate: Certificate


@fitting_blas
def classify(ufm: UFM, p: Point, *, gradient_tol: float = 1e-6, certificate_tol: float = 1e-8) -> CriticalPoint:
    """Say what kind of point p is: mostly from one gradient, one Hessian product and a few small eigenproblems.

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
        As for `certify`, or if a tolerance is not positive.

    Notes
    -----
    With s = |G|_2, the lowest eigenvalue is at least min(L, lambda_b) at any point (at least L without bias),

        L = (lambda_W + lambda_H)/2 - sqrt((lambda_W - lambda_H)^2/4 + s^2),

    because the data term's Hessian is positive in the logits and <G, dW dH> is at most s |dW| |dH|. L is attained
    where some unit a has W a = 0 and H a = 0, by dW = alpha u a^T, dH = beta v a^T with u, v the leading singular
    vectors of G and (alpha, beta) the lower eigenvector of [[lambda_W, s], [s, lambda_H]]. Elsewhere the curvatures of
    that direction (a the least common singular vector), of a rotation of the features and, for cross-entropy, of a
    common shift of the bias bound the lowest eigenvalue from above.

    Always in float64. Costs a `certify`, ten K x d x M products, and eigenproblems of sizes d and K; no M x K array
    is formed where H has a row a sample. `lowest_eigenpairs` takes up to thousands of Hessian products.
    """
    for name, tol in (("gradient_tol", gradient_tol), ("certificate_tol", certificate_tol)):
        if not tol > 0:
            raise ValueError(f"{name} must be positive, not {tol!r}")
    certificate = certify(ufm, p)
    dtype = ufm.dtype
    ufm, p = in_double(ufm, p)
    _, gradient = ufm.loss_and_grad(p)
    samples = ufm._samples
    rho = (ufm.lambda_H / ufm.lambda_W) ** 0.25
    A, B = p.W / rho, p.H * (rho * np.sqrt(samples))[:, None]
    gradient_norm = math.hypot(
        float(np.linalg.norm(gradient.W)) * rho,
        float(np.linalg.norm(gradient.H / np.sqrt(samples)[:, None])) / rho,
        float(np.linalg.norm(gradient.b)),
    )
    squares, common = np.linalg.eigh(A.T @ A + B.T @ B)
    largest = math.sqrt(max(0.0, squares[-1]))
    threshold = _RANK_TOLERANCE * max(largest, (ufm.N / ufm.K) ** 0.25)
    spectral_norm, pair = _descent_pair(ufm, p, common[:, 0])

    size = max(spectral_norm, ufm.tau) * math.sqrt(max(0.0, float(squares.sum())) + ufm.N)
    unit = 2 * ufm.lambda_W * ufm.lambda_H / (ufm.lambda_W + ufm.lambda_H)
    curvature = sum(float(np.vdot(v, Hv)) for v, Hv in zip(pair, ufm.hvp(p, pair), strict=True))
    lower = _lower_bound(ufm, spectral_norm, math.hypot(rho * np.linalg.norm(A), np.linalg.norm(B) / rho))
    upper = min(curvature, _rotation_curvature(p, gradient, samples, common[:, -2:]))
    if ufm.bias and ufm.loss_function.name == "cross_entropy":
        upper = min(upper, ufm.lambda_b)

    exact = lower if upper - lower <= _AGREEMENT * max(abs(lower), unit) else math.nan
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
        rank=int((squares > threshold**2).sum()),
        lowest_eigenvalue=exact,
        lowest_eigenvalue_bounds=(lower, upper),
        direction=Point(*(part.astype(dtype) for part in pair)) if kind == "strict_saddle" else None,
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
        found = lowest_eigenpairs(ufm, p, 2 if free_shift else 1, deflate=True)
    if caught:
        return None
    lowest, vector = float(found.eigenvalues[0]), found.vectors[0]
    if lowest < -margin:
        return "strict_saddle", lowest, vector
    lowest = min(0.0, lowest) if found.deflated > 0 else lowest
    return "local_minimum" if found.eigenvalues[-1] > margin else "undecided", lowest, vector


def _descent_pair(ufm: UFM, p: Point, a: Array) -> tuple[float, Point]:
    """Return |G|_2 and the unit direction (alpha u a^T, beta a v^T, 0) of least curvature for a null direction a."""
    if ufm.collapse_classes:
        q = ClassProblem(ufm)
        A, B, b = q.coordinates(p)
        _, G, _ = q.data_term(B @ A.T, b)
        squares, vectors = np.linalg.eigh(G.T @ G)
        v = G @ vectors[:, -1]
    else:
        squares, vectors = np.linalg.eigh(ufm._run(ufm._problem.gradient_gram, *p))
        v = ufm._run(ufm._problem.gradient_product, *p, np.ascontiguousarray(vectors[:, -1:]))[:, 0]
    spectral_norm = math.sqrt(max(0.0, squares[-1]))
    if (length := np.linalg.norm(v)) > 0:
        v = v / length
    else:  # G = 0
        v[0] = 1.0
    _, mixture = np.linalg.eigh([[ufm.lambda_W, spectral_norm], [spectral_norm, ufm.lambda_H]])
    alpha, beta = mixture[:, 0]
    rows = v / np.sqrt(ufm._samples)
    return spectral_norm, Point(alpha * np.outer(vectors[:, -1], a), beta * np.outer(rows, a), np.zeros(ufm.K))


def _lower_bound(ufm: UFM, spectral_norm: float, length: float) -> float:
    """Return a lower bound on the Hessian's lowest eigenvalue at a point with |(W, H)| = length: see `classify`."""
    mean, half = (ufm.lambda_W + ufm.lambda_H) / 2, (ufm.lambda_W - ufm.lambda_H) / 2
    # L, without cancellation:
    least = (ufm.tau - spectral_norm) * (ufm.tau + spectral_norm) / (mean + math.hypot(half, spectral_norm))
    if not ufm.bias:
        return least
    if ufm.loss_function.name == "cross_entropy":
        return min(least, ufm.lambda_b)
    # Squared error curves along the bias by 1 + lambda_b, less what the first-order change of W H can undo.
    mean, half = (least + 1 + ufm.lambda_b) / 2, (least - 1 - ufm.lambda_b) / 2
    return max(min(least, ufm.lambda_b), mean - math.hypot(half, length / math.sqrt(ufm.N)))


def _rotation_curvature(p: Point, gradient: Point, samples: Array, plane: Array) -> float:
    """Rayleigh quotient of rotating all features in a plane: f is constant on the circle, so the gradient gives it."""
    if plane.shape[1] < 2:
        return math.inf
    W, H = p.W @ plane, p.H @ plane
    length = float((W * W).sum() + (samples[:, None] * H * H).sum())
    slope = float(((gradient.W @ plane) * W).sum() + ((gradient.H @ plane) * H).sum())
    return slope / length if length > 0 else math.inf
