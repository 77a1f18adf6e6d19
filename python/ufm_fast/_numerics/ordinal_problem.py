"""The convex problem of an ordinal model, which has one logit a row, and its exact minimum.

In the coordinates of `CanonicalProblem`, with z_i = Z_i / root_i the scores and |.| the Euclidean norm, it is

    F(z, b) = sum_i weight_i l_i(z_i, b) + tau |root z| + lambda_b/2 |b|^2,

a nuclear norm of one column. l_i is -log(g(hi_i - z_i) - g(lo_i - z_i)), where lo_i and hi_i are the thresholds of the
row's level: either given, less the bias b, a number; or they are the bias, K - 1 numbers. It is convex in (z, b) where
g' is log-concave, because the probability of an interval is then log-concave in all its ends (theorem of Prekopa), so
learned thresholds have no spurious minima either. (Ma, Obuchi & Tanaka, arXiv 2506.05801, treat given thresholds.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special
from numpy.typing import NDArray

from .._runtime import core
from .._runtime.arrays import Array

_STEPS = 200
_HALVINGS = 60
_DECREASE = 0.25
_SETTLED = 1e-15  # of F: what a Newton step still promises
_REACH = 10.0  # of the scores and biases: the longest step
_LEAST_CURVATURE, _SINGULAR = 1e-200, 1e-13  # added to that in the bias, which vanishes for saturated rows
_TINY = float(np.finfo(float).tiny)


class Terms(NamedTuple):
    """-log(g(hi - z) - g(lo - z)) of each row and its derivatives: `slope` in z, -`of_hi` in hi and `of_lo` in lo.

    The second derivative along (dz, dlo, dhi) is
    ``at_hi (dz - dhi)^2 + at_lo (dz - dlo)^2 + between (dhi - dlo)^2``, without a negative coefficient.
    """

    loss: Array
    slope: Array
    of_hi: Array
    of_lo: Array
    at_hi: Array
    at_lo: Array
    between: Array


@dataclass(frozen=True, eq=False)
class OrdinalProblem:
    """Rows with a level, a weight and a root ridge each, and what they share.

    Attributes
    ----------
    levels : int
    link : {"logit", "probit"}
    thresholds : ndarray, shape (levels + 1,), or None
        Ascending, the outer ones may be infinite; None where they are learned.
    labels : ndarray of int64, shape (M,)
    weights, root : ndarray, shape (M,)
    tau, lambda_b : float
    bias : bool
    """

    levels: int
    link: str
    thresholds: Array | None
    labels: NDArray[np.int64]
    weights: Array
    root: Array
    tau: float
    lambda_b: float
    bias: bool

    @property
    def learns_thresholds(self) -> bool:
        """Whether the bias are the thresholds."""
        return self.thresholds is None

    @property
    def biases(self) -> int:
        """How many numbers the bias is."""
        return self.levels - 1 if self.learns_thresholds else 1

    def merged(self) -> tuple[OrdinalProblem, NDArray[np.intp]]:
        """Merge rows with equal level, weight and root, and return where each row went.

        At a minimum such rows have equal scores, because their mean has no larger loss or norm.
        """
        rows = np.column_stack([self.labels, self.weights, self.root])
        unique, index, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        values |= {"labels": unique[:, 0].astype(np.int64), "weights": unique[:, 1] * counts}
        return OrdinalProblem(**values | {"root": unique[:, 2] * np.sqrt(counts)}), index.reshape(-1)

    def ends(self, b: Array) -> tuple[Array, Array]:
        """Return the thresholds below and above each row's level; those that are given, less the bias."""
        if self.thresholds is None:
            t = np.concatenate([[-math.inf], b, [math.inf]])
        else:
            t = self.thresholds - b[0] if self.bias else self.thresholds
        return t[self.labels], t[self.labels + 1]

    def terms(self, z: Array, b: Array) -> Terms:
        """Return the losses of the rows at scores z, and their derivatives."""
        lo, hi = self.ends(b)
        return Terms(*core.ordinal_terms(self.link, z, lo, hi))

    def value(self, z: Array, b: Array) -> float:
        """Return F."""
        data = float(self.weights @ self.terms(z, b).loss)
        return data + self.tau * float(np.linalg.norm(self.root * z)) + 0.5 * self.lambda_b * float(b @ b)

    def bias_gradient(self, terms: Terms) -> Array:
        """Return the gradient of the data term in the bias."""
        if not self.learns_thresholds:
            return np.array([self.weights @ terms.slope])
        received, given = self._by_threshold(terms)
        return received - given

    def bias_sizes(self, terms: Terms) -> Array:
        """Return the same sums, but of the sizes of their terms."""
        if not self.learns_thresholds:
            return np.array([self.weights @ abs(terms.slope)])
        received, given = self._by_threshold(terms)
        return received + given

    def _by_threshold(self, terms: Terms) -> tuple[Array, Array]:
        received, given = (self.by_level(self.weights * each) for each in (terms.of_lo, terms.of_hi))
        return received[1:], given[:-1]

    def by_level(self, values: Array) -> Array:
        """Add up numbers of rows over the levels, (levels,)."""
        return np.asarray(np.bincount(self.labels, values, self.levels), dtype=np.float64)

    def start(self) -> Array:
        """Return a bias to begin with: given thresholds as they are, or thresholds of the levels' weights."""
        if not self.learns_thresholds:
            return np.zeros(1)
        return even_thresholds(self.link, self.by_level(self.weights))


class Optimum(NamedTuple):
    """Scores and bias of a minimum, and nu = tau / |root z|; infinity where the scores are zero."""

    z: Array
    b: Array
    nu: float


def even_thresholds(link: str, weights: Array) -> Array:
    """Return the thresholds at which levels have probabilities in proportion to their weights, for z = 0."""
    share = np.cumsum(weights)[:-1] / weights.sum()
    return np.asarray(np.log(share) - np.log1p(-share) if link == "logit" else scipy.special.ndtri(share))


def minimum(problem: OrdinalProblem) -> Optimum:
    """Minimise F to rounding.

    The scores are zero where the gradient matrix at zero and the best bias is within the ball, |G| <= tau. Elsewhere
    the minimum is that of the smooth and convex

        E(z, b) = sum_i weight_i l_i(z_i, b) + nu/2 |root z|^2 + lambda_b/2 |b|^2,

    whose gradient in z is that of F, for the nu with nu |root z| = tau. The left side rises with nu (at a minimiser of
    a convex function plus nu/2 |.|^2 the norm of the subgradient does), so nu is a root by bracketing in log nu.
    """
    zero = np.zeros(len(problem.weights))
    b = best_bias(problem, zero, problem.start())
    slope = float(np.linalg.norm(problem.weights * problem.terms(zero, b).slope / problem.root))
    if slope <= problem.tau:
        return Optimum(zero, b, math.inf)
    last = [zero, b]

    def excess(log_nu: float) -> float:
        last[:] = _minimise(problem, math.exp(log_nu), *last)
        norm = float(np.linalg.norm(problem.root * last[0]))
        return log_nu + math.log(max(norm, _TINY)) - math.log(problem.tau)

    low = high = math.log(float((problem.weights / problem.root**2).max()))
    while excess(low) > 0:
        low -= 3
    while excess(high) < 0:
        high += 3
    log_nu = scipy.optimize.brentq(excess, low, high, xtol=1e-15, rtol=4 * np.finfo(float).eps)
    excess(log_nu)
    return Optimum(last[0], last[1], math.exp(log_nu))


def best_bias(problem: OrdinalProblem, z: Array, guess: Array) -> Array:
    """Return the bias of least F at fixed scores, by damped Newton steps from a guess, if F is finite there."""
    if not problem.bias:
        return np.zeros(problem.biases)
    if not math.isfinite(problem.value(z, guess)):
        guess = problem.start()
    return _minimise(problem, math.inf, z, guess)[1]


def _minimise(problem: OrdinalProblem, nu: float, z: Array, b: Array) -> tuple[Array, Array]:
    """Minimise E by damped Newton steps; for nu = infinity, over the bias alone."""
    value, terms = _smooth(problem, nu, z, b)
    for _ in range(_STEPS):
        dz, db, promise = _newton_step(problem, nu, z, b, terms)
        if not promise > 0:
            break
        settled = promise <= _SETTLED * abs(value)
        sizes = [float(abs(x).max()) for x in (z, b, dz, db)]
        longest = min(1.0, _REACH * (1 + sizes[0] + sizes[1]) / max(*sizes[2:], _TINY))
        for halving in range(_HALVINGS):
            step = longest * 0.5**halving
            trial = z + step * dz, b + step * db
            new, new_terms = _smooth(problem, nu, *trial)
            if new <= value - _DECREASE * step * promise or (settled and new <= value * (1 + 1e-14)):
                break
        else:
            break
        (z, b), value, terms = trial, new, new_terms
        if settled:
            break
    return z, b


def _smooth(problem: OrdinalProblem, nu: float, z: Array, b: Array) -> tuple[float, Terms]:
    """Return E and the terms."""
    terms = problem.terms(z, b)
    ridge = 0.5 * nu * float((problem.root * z) @ (problem.root * z)) if math.isfinite(nu) else 0.0
    return float(problem.weights @ terms.loss) + ridge + 0.5 * problem.lambda_b * float(b @ b), terms


def _newton_step(problem: OrdinalProblem, nu: float, z: Array, b: Array, terms: Terms) -> tuple[Array, Array, float]:
    """Return the Newton step of E and the decrease that it promises, times two.

    The second derivative in z is diagonal. What is left for the bias when z is eliminated has positive terms only: no
    digits are lost where nu is small.
    """
    weights, moves = problem.weights, math.isfinite(nu)
    ridge = nu * problem.root**2 if moves else np.full(len(z), math.inf)
    at_hi, at_lo, between = weights * terms.at_hi, weights * terms.at_lo, weights * terms.between
    curvature = at_hi + at_lo
    own = ridge / (curvature + ridge) if moves else np.ones(len(z))  # share of the ridge in the diagonal
    gradient_z = weights * terms.slope + (ridge * z if moves else 0.0)
    reach = gradient_z / (curvature + ridge)
    if not problem.bias:
        dz = -reach
        return dz, np.zeros(problem.biases), -float(gradient_z @ dz)
    gradient_b = problem.bias_gradient(terms) + problem.lambda_b * b
    if not problem.learns_thresholds:
        reduced = gradient_b[0] - float(curvature @ reach)
        db = np.array([-reduced / (problem.lambda_b + float(curvature @ own) + _LEAST_CURVATURE)])
        dz = -(reach + (1 - own) * db[0])
    else:
        toward_hi, toward_lo = problem.by_level(at_hi * reach)[:-1], problem.by_level(at_lo * reach)[1:]
        share = np.divide(at_lo, curvature, out=np.zeros_like(at_lo), where=curvature > 0)
        coupling = between + (1 - own) * share * at_hi
        diagonal = problem.by_level(coupling + own * at_hi)[:-1] + problem.by_level(coupling + own * at_lo)[1:]
        diagonal = (1 + _SINGULAR) * diagonal + problem.lambda_b + _LEAST_CURVATURE
        off = -problem.by_level(coupling)[1:-1]
        banded = np.vstack([np.append(0.0, off), diagonal]) if problem.levels > 2 else diagonal[None, :]
        db = -scipy.linalg.solveh_banded(banded, gradient_b + toward_hi + toward_lo)
        full = np.concatenate([[0.0], db, [0.0]])
        dz = -reach + (at_hi * full[problem.labels + 1] + at_lo * full[problem.labels]) / (curvature + ridge)
    return dz, db, -float(gradient_z @ dz) - float(gradient_b @ db)
