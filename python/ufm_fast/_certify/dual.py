"""Lower bounds on the global minimum from points of the dual problem.

In the coordinates of `CanonicalProblem` the minimum over all widths d is that of a convex problem in (Z, b),

    data(Z, b) + tau |Z|_* + lambda_b/2 |b|^2,

whose dual is to maximise over M x K matrices Y (the place of G = d data / d Z)

    D(Y) = -data*(Y) - |e|^2 / (2 lambda_b)   subject to |Y|_2 <= tau,     e = sum_i root_i Y_i

(lambda_b = 0: subject to e = 0; no bias: no such term), with root_i^2 the ridge of row i. Every feasible Y bounds the
minimum from below, at every d. The minimum does not fall as lambda_b rises, so bounds for lambda_b = 0 hold for every
lambda_b; the better is taken where e, or its rounding, is so large beside lambda_b that |e|^2 / (2 lambda_b) may leave
nothing.
What -data* is, the class of the loss's dual says.

Why the bounds hold in floating point, u = 2^-52. A value D(Y) is computed with its rounding taken off: see the classes.

* The norm. If |Y|_2 <= (1 + m) tau then Y / (1 + m) is feasible, and as D is concave with D(0) >= 0 its value is at
  least (1 - m) D(Y). m = (64 + 4 max(M, K)) u covers the backward errors of LAPACK (a norm from Lanczos counts only
  where a Cholesky factorisation shows that no eigenvalue of Y^T Y is larger) and of the products (entries in error by
  sqrt(K) u relative to their row change the norm by at most K u). What else is changed in Y is added to it.
* The constraint e = 0, which rounding leaves violated, is restored by a change whose norm and cost in D are bounded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .._numerics.gram_spectra import leading_singular_pair, norm_rounding
from .._runtime import core, linalg
from .._runtime.arrays import Array
from .._runtime.blas import gram, product

if TYPE_CHECKING:
    from .._model.canonical import CanonicalProblem

#: Costs in products of two K x K matrices, for work counts.
NORM_PRODUCTS, EIGH_PRODUCTS, SVD_PRODUCTS = 2, 8, 20

UNIT = float(np.finfo(float).eps)
TINY = float(np.finfo(float).tiny)
_ACTIVE = 0.8  # singular values above this fraction of tau are taken to be tau at the optimum (polar bound)
_NEGLIGIBLE = 1e-6


class LowerBounds(ABC):
    """Lower bounds of a problem; valid whatever point they are taken at.

    Each bound is a float, at least zero. `products` counts the work of all calls in matrix products. Matrices are
    (M, K), as in `CanonicalProblem`: Z the scores of a point, G its gradient matrix.
    """

    #: Whether the bound of a Newton-Schulz step is of use near the minimum, while that has full rank.
    follows_newton_schulz = False

    def __init__(self) -> None:
        self.products = 0.0

    @abstractmethod
    def scaled_bound(self, G: Array, norm: float) -> float:
        """Return the cheapest bound, given |G|_2 too."""

    @abstractmethod
    def newton_schulz_bound(self, G: Array) -> float:
        """Return a bound of second order without a spectrum."""

    @abstractmethod
    def polar_bound(self, G: Array) -> float:
        """Return a bound of second order in the gradient's error."""

    @abstractmethod
    def prox_bound(self, Z: Array, G: Array) -> float:
        """Return a bound of second order, at optima of any rank."""


class Dual(LowerBounds):
    """Dual bounds from matrices Y in the ball, each at least `floor`, the value of D(0) or zero.

    Parameters
    ----------
    problem : CanonicalProblem
    """

    def __init__(self, problem: CanonicalProblem) -> None:
        super().__init__()
        self.problem = problem
        self.floor = 0.0
        self.rounding = problem.sum_rounding
        self.norm_rounding = norm_rounding(max(problem.K, problem.M))
        #: Whether e = 0 is a constraint.
        self.balances = problem.bias and problem.lambda_b == 0

    @cached_property
    def without_decay(self) -> Dual:
        """The dual of the same problem with lambda_b = 0, whose bounds hold here too."""
        return type(self)(self.problem.without_bias_decay())

    @abstractmethod
    def value(self, Y: Array) -> float:
        """Return a lower bound on the minimum from a dual point with |Y|_2 <= tau, up to rounding.

        With a bias without decay, Y must come from `feasible` (or combinations of such); e != 0 is paid for.
        """

    @abstractmethod
    def feasible(self, G: Array) -> Array:
        """Return G made to satisfy e = 0 where that is a constraint (bias without decay), else G itself.

        The smaller e (it is zero at the best bias), the less changes. Cost O(M K).
        """

    @abstractmethod
    def scaled(self, F: Array, norm: float) -> Array:
        """Return F, of this norm, times a factor that keeps it in the ball."""

    @abstractmethod
    def centred(self, Y: Array) -> Array:
        """Project onto the linear constraints, which hold for Y but for rounding in what it was made from."""

    def towards(self, Y: Array, F: Array, norm: float | None = None) -> float:
        """Return a bound at Y or, where that is infeasible, near it on the way from F, whose norm may be given."""
        return max(self.floor, self.value(Y))

    def scaled_bound(self, G: Array, norm: float) -> float:
        """Return certificate A: the gradient, with norm |G|_2, scaled into the ball. First order in the error.

        Cost O(M K), and a norm where the bias has no decay and is far from its best.
        """
        F = self.feasible(G)
        change = float(np.linalg.norm(F - G)) if F is not G else 0.0
        bound = self.value(self.scaled(F, norm + change if change <= _NEGLIGIBLE * norm else self.norm(F)))
        return self._better(bound, lambda dual: dual.scaled_bound(G, norm), cheap=True)

    def newton_schulz_bound(self, G: Array) -> float:
        """Second-order bound from one Newton-Schulz step towards the polar factor. Cost: 2 products, no spectrum.

        s (3 - s^2) / 2 maps [0, 2] into [0, 1], so the norm needs no more than a bound on |F|_2 / tau. Loose where the
        optimum has rank below K-1 (singular values of G that belong under tau are raised): see `prox_bound`.
        """
        self.products += 2
        F = self.feasible(G)
        X = F / self.problem.tau
        square = gram(X, self.problem.workers)
        norm = max(TINY, np.sqrt(abs(square).sum(axis=1).max()))
        scale = min(1.0, 1.99 / norm)
        Y = self.combination([1.5 * scale, -0.5 * scale**3], [F, product(F, square, self.problem.workers)])
        bound = self.towards(Y, F, float(norm) * self.problem.tau)
        return self._better(bound, lambda dual: dual.newton_schulz_bound(G))

    def polar_bound(self, G: Array) -> float:
        """Return the better of certificates A and B. Second order. Cost: one eigendecomposition, 3 products.

        B sets the active singular values of the gradient to tau exactly and clips the others.
        """
        tau = self.problem.tau
        F = self.feasible(G)
        Y, norm = self._remapped(F, lambda s: np.where(s > _ACTIVE * tau, tau / np.maximum(s, _ACTIVE * tau), 1.0))
        bound = max(self.value(self.scaled(F, norm)), self.towards(Y, F, norm))
        return self._better(bound, lambda dual: dual.polar_bound(G))

    def prox_bound(self, Z: Array, G: Array) -> float:
        """Return the bound of one proximal-gradient step from Z. Second order; also at optima of any rank.

        Y = -clip(Z/t - G), singular values clipped to tau, 1/t the mean curvature of the data term: the dual point of
        a proximal step of length t, usually within 1.5 of the true gap near the optimum. For squared error without
        bias or without bias decay Z/t - G does not depend on Z and the bound is the minimum itself.
        With 0 < lambda_b < tau, `polish` the point first. Cost: one eigendecomposition, 3 products.
        """
        curvature, F, tau = self.mean_curvature(G), self.feasible(G), self.problem.tau
        step, _ = self._remapped(
            self.combination([1.0, -curvature], [F, self.centred(Z)]), lambda s: tau / np.maximum(s, tau)
        )
        return self._better(self.towards(step, F), lambda dual: dual.prox_bound(Z, G))

    def mean_curvature(self, G: Array) -> float:
        """Return the mean second derivative of the data term in a score that is not a row's anchor."""
        problem = self.problem
        sums = problem.curvature(G)
        return max(0.0, sums.total - sums.at_labels) / (problem.M * max(1, problem.K - 1))

    def norm(self, F: Array) -> float:
        """Return the spectral norm |F|_2: see `leading_singular_pair`."""
        self.products += NORM_PRODUCTS
        return leading_singular_pair(F, self.problem.workers)[0]

    def combination(self, coefficients: list[float], matrices: list[Array]) -> Array:
        flat = [np.ascontiguousarray(matrix).ravel() for matrix in matrices]
        return core.combination(coefficients, flat, self.problem.workers).reshape(matrices[0].shape)

    def _better(self, bound: float, of: Callable[[Dual], float], cheap: bool = False) -> float:
        """The better of a bound and that without a decay of the bias, where this is cheap or the decay left nothing."""
        bound = max(self.floor, bound)
        if self.balances or not (cheap or bound == self.floor or self.problem.bias_is_free) or not self.problem.bias:
            return bound
        before = self.without_decay.products
        bound = max(bound, of(self.without_decay))
        self.products += self.without_decay.products - before
        return bound

    def _remapped(self, M: Array, factor: Callable[[Array], Array]) -> tuple[Array, float]:
        """M with each singular value s multiplied by factor(s) (tau at most), and |M|_2.

        From the eigenvectors of M^T M unless |M|_2 is well above tau, where squaring would lose the accuracy near tau:
        an error of a few u |M|_2^2 in the eigenvalues is within m while |M|_2^2 is at most (16 + K) tau^2.
        """
        X = M / self.problem.tau
        square = gram(X, self.problem.workers)
        if abs(square).sum(axis=1).max() <= 16 + M.shape[1]:
            self.products += EIGH_PRODUCTS + 3
            squares, V = linalg.eigh(square)
            s = self.problem.tau * np.sqrt(np.maximum(squares, TINY))
            change = factor(s) - 1
            V, change = np.ascontiguousarray(V[:, change != 0]), change[change != 0]
            changed = product(product(M, V, self.problem.workers) * change, V.T, self.problem.workers)
            return self.centred(M + changed), float(s[-1])
        self.products += SVD_PRODUCTS + 2
        U, s, V = linalg.svd(M, full_matrices=False)
        s = np.maximum(s, TINY)
        return self.centred(product(U * (s * factor(s)), V, self.problem.workers)), float(s[0])
