"""certify: how far above the global minimum a point can be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from .._model.facts import checked_model
from .._model.model import UFM, in_double
from .._model.point import Point, checked_point
from .._runtime.arguments import real_number
from .._runtime.blas import product, single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.threads import concurrently
from .duals import dual_of, require_dual
from .linearization import Linearization, linearized


@dataclass(frozen=True)
class Certificate:
    """A proven bracket ``lower_bound <= global minimum <= loss``.

    Attributes
    ----------
    loss : float
        Loss of the point, in float64.
    lower_bound : float
        Bound on the global minimum over every feature dimension.
    gap : float
        ``loss + rounding - lower_bound``: the loss is at most this much above the global minimum.
    relative_gap : float
        ``gap / |loss|``.
    spectral_norm : float
        |G|_2 of the gradient G of the data term with respect to the logits without bias, W h_i, over all samples
        (computed in the isometric class coordinates, from class means).
    threshold : float
        tau = ``sqrt(lambda_W lambda_H)``. A critical point with ``spectral_norm <= threshold`` is a global minimum.
    rounding : float
        Bound on the rounding error of the loss, of the order of 1e-13 of it at K = d = 100.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> uf.minimize(ufm).certificate.is_global(1e-8)
    True
    """

    loss: float
    lower_bound: float
    gap: float
    relative_gap: float
    spectral_norm: float
    threshold: float
    rounding: float

    def is_global(self, tol: float = 1e-8) -> bool:
        """Whether the loss is proven to be within the relative tolerance ``tol`` of the global minimum.

        Raises
        ------
        TypeError, ValueError
            If ``tol`` is no number, negative or not finite.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
        >>> uf.certify(ufm, ufm.random_point(seed=0)).is_global()
        False
        """
        return self.relative_gap <= real_number(tol, "tol", least=0)

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.12g}, global minimum at least {self.lower_bound:.12g} (relative gap "
            f"{self.relative_gap:.1e}), |G|_2 / tau = {self.spectral_norm / self.threshold:.9g}"
        )


@single_threaded_blas()
def certify(ufm: UFM, p: Point) -> Certificate:
    """Bound the global minimum from below at a point, and so the point's distance from it.

    The bound is the best of several points of the dual of the convex problem in the logits to which the model is
    equivalent (ridge penalties on two factors are a nuclear norm on their product; Zhu et al., arXiv:2105.02375): the
    gradient scaled or mapped into the dual ball, and one proximal-gradient step, at the point's own bias and at the
    best one. It is valid at every point, critical or not, with allowances for rounding (1e-13 of its value at K = 100,
    1e-12 to 1e-11 at K = 1000), and near the global minimum the gap is usually 1 to 1.5 times the true one; for squared
    error without a bias or with a bias without decay the bound is the global minimum from anywhere.

    The equivalence holds for feature dimensions that reach the rank of the optimum: K - 1, or K for squared error with
    no bias or a decayed one. For smaller d the bound stays valid, but in general no point attains it, and a gap proves
    nothing.

    Parameters
    ----------
    ufm : UFM
    p : Point
        As for `UFM.loss`. With a row a sample the bound is taken at the class means (no higher in loss, with the same
        global minimum); the loss is that of p itself.

    Returns
    -------
    Certificate

    Raises
    ------
    TypeError, ValueError
        If p is not a point of the model, holds a NaN or an infinity, or the loss is not convex in the logits, where
        nothing can be certified.
    FloatingPointError
        If the loss overflows at p.
    ArithmeticError
        If a bound exceeds the loss by more than rounding explains, which would be a fault of this package.
    MemoryError
        If there is less memory than the sizes of the model ask for.

    Notes
    -----
    Always in float64, also for float32 models. Costs about 30 products of two K x K matrices (a norm and two
    eigendecompositions) and holds about 22 K x K and 8 K x d arrays, two bounds being computed at once; of rows with
    targets M x K and M x d ones, whatever form these have. d far above K + M adds a QR decomposition of d x (K + M)
    and nothing of size d x d.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> certificate = uf.certify(ufm, ufm.random_point(0))
    >>> certificate.lower_bound <= uf.global_minimum(ufm).value <= certificate.loss
    True
    """
    ufm, p = certifiable(checked_model(ufm), p)
    K, M, d = ufm.layout.K, ufm.M if ufm.collapse_classes else ufm.K, ufm.d
    require_memory("certify", 37 * M * K + 4 * (M + K) * d, K=ufm.K, M=M, d=d)
    return certificate_at(linearized(ufm, p))


def certificate_at(here: Linearization) -> Certificate:
    """Certify a point where the gradient matrix and its norm are known."""
    problem, dual = here.problem, dual_of(here.problem)
    bounds = [dual.scaled_bound(here.G, here.norm)]
    B, b = problem.polish(here.A, here.B, here.b)
    Z = product(B, here.A.T, problem.workers)
    _, G, _ = problem.data_term(Z, b)
    bounds += concurrently([partial(dual.polar_bound, G), partial(dual.prox_bound, Z, G)], min(2, problem.workers))
    return certificate_of(here.loss, here.rounding, max(bounds), here.norm, problem.tau)


def quick_certificate_at(here: Linearization) -> Certificate:
    """Certify with the cheapest of the bounds, for a point that cannot be near the minimum."""
    lower_bound = dual_of(here.problem).scaled_bound(here.G, here.norm)
    return certificate_of(here.loss, here.rounding, lower_bound, here.norm, here.problem.tau)


def certificate_of(loss: float, rounding: float, lower_bound: float, spectral_norm: float, tau: float) -> Certificate:
    """Put a certificate together from a loss with a bound on its rounding error, and a lower bound."""
    gap = certified_gap(loss, rounding, lower_bound)
    return Certificate(loss, min(loss, lower_bound), gap, relative_to(loss, gap), spectral_norm, tau, rounding)


def relative_to(loss: float, gap: float) -> float:
    """Return a gap relative to a loss that is not negative; infinity for a gap above a loss of zero."""
    if loss > 0:
        return gap / loss
    return math.inf if gap > 0 else 0.0


def certified_gap(loss: float, rounding: float, lower_bound: float) -> float:
    """Return how far a point whose loss is known up to rounding can be above the global minimum."""
    if not lower_bound <= loss + rounding:
        raise ArithmeticError(
            f"the lower bound {lower_bound!r} is above the loss {loss!r} by more than its rounding, {rounding:.1e}: "
            "this must not happen; please report the model and the point"
        )
    return loss + rounding - min(loss, lower_bound)


def certifiable(ufm: UFM, p: Point) -> tuple[UFM, Point]:
    """Check that p is a point of a model that has a dual problem, and return both in float64."""
    require_dual(ufm)
    p = checked_point(p, ufm.layout, ufm.dtype)
    if ufm.dtype == np.float64:
        return ufm, p
    double = in_double(ufm, collapse=ufm.collapse_classes)
    return double, Point(*(np.ascontiguousarray(part, dtype=np.float64) for part in p))
