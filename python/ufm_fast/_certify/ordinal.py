"""The certified lower bound of ordinal models: their minimum itself, less rounding."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .._model.ordinal import Ordinal
from .._numerics.ordinal_problem import OrdinalProblem, Terms, minimum
from .._runtime.arrays import Array
from .dual import UNIT, LowerBounds

if TYPE_CHECKING:
    from .._model.canonical import CanonicalProblem

_OF_A_FUNCTION = 16 * UNIT  # error of a function of one row, relative: see `lower_bound`
_ABOVE = 1.001  # what U and what follows from it are multiplied by


class OrdinalDual(LowerBounds):
    """Bounds of a problem with an ordinal loss: all are the one at the minimum, from wherever they are asked.

    The minimum costs some Newton steps of O(M) (`minimum`), so there is no need for the point that a caller has.
    """

    def __init__(self, problem: CanonicalProblem) -> None:
        super().__init__()
        self.problem = ordinal_problem(problem)

    @cached_property
    def bound(self) -> float:
        """The bound; zero, which all losses and penalties are above, where it is not finite."""
        merged, _ = self.problem.merged()
        bound = lower_bound(merged)
        return max(0.0, bound) if math.isfinite(bound) else 0.0

    def scaled_bound(self, G: Array, norm: float) -> float:
        """Return the bound."""
        return self.bound

    def newton_schulz_bound(self, G: Array) -> float:
        """Return the bound."""
        return self.bound

    def polar_bound(self, G: Array) -> float:
        """Return the bound."""
        return self.bound

    def prox_bound(self, Z: Array, G: Array) -> float:
        """Return the bound."""
        return self.bound


def ordinal_problem(problem: CanonicalProblem) -> OrdinalProblem:
    """Return the convex problem of a canonical problem with an ordinal loss."""
    labels, loss, levels = problem.rows.labels, problem.loss, problem.ufm.K
    assert labels is not None
    assert isinstance(loss, Ordinal)
    return OrdinalProblem(
        levels=levels,
        link=loss.link,
        thresholds=loss.ends(levels),
        labels=labels,
        weights=problem.weights,
        root=problem.root,
        tau=problem.tau,
        lambda_b=problem.lambda_b if problem.bias else 0.0,
        bias=problem.bias,
    )


def lower_bound(problem: OrdinalProblem) -> float:
    """Return a lower bound on the minimum of F.

    Let z0, b0 be any point, l_i and s_i the losses of the rows there and their slopes in z, r the gradient of F's data
    term and decay in b, Z = root z and Y = weight s / root. The l_i are convex in (z, b), so for every z and b

        F(z, b) >= V + <Y, Z> + tau |Z| + [<r, b - b0> + lambda_b/2 |b - b0|^2],
        V = sum_i weight_i (l_i - s_i z0_i) + lambda_b/2 |b0|^2.

    Let U be a value of F. Only points with F <= U matter, and as no term of F is negative, they have

    * |Z| <= S for S = U / tau, and for any other S that follows (below);
    * |z_i| <= S / root_i, and row i has a probability of at least exp(-U / weight_i). So g(hi_i - z_i) and
      1 - g(lo_i - z_i) are no less, and hi_i - z_i >= -h_i and lo_i - z_i <= h_i with h_i = U / weight_i for the logit
      (where g(-x) <= exp(-x)) and sqrt(2 U / weight_i) for the probit (where g(-x) <= exp(-x^2 / 2), x >= 0). Hence
      thresholds that are learned, and likewise a bias that moves given ones, lie in known intervals (`_reach`). With
      R_k the largest distance of b0_k from the ends of its interval, the bracket is at least -C,
      C = min(|r|^2 / (2 lambda_b), sum_k R_k |r_k|). Where a row on one side of a threshold is missing, R is infinite.

    So the minimum is at least V - C - (|Y| - tau)_+ S. And where |Y| < tau, F <= U implies |Z| <= (U - V + C) /
    (tau - |Y|), another S. It is taken at the minimum for tau/2. The bound is taken at the minimum for a tau smaller by
    so much that the rounding of |Y| is paid for: while tau |Z| is a small part of F, that costs less than S would.

    Rounding, u = 2^-52. The functions of a row have relative errors of a few u, besides what rounding the arguments
    hi - z and lo - z (off by at most u (|hi| + |z|) and u (|lo| + |z|), given thresholds less the bias included) and
    exponents made of them does: to first order, these times the derivatives in hi and lo, which the core has computed
    too. (For the derivatives in learned thresholds that of the width hi - lo counts too, relative u.) 16 u times the
    sum of both is allowed for; in attacks, errors up to 3 u times it occur. A sum of M terms is known to (32 + M) u of
    the sum of their sizes at worst, in whichever order; that covers the roundings of merged weights and roots, of V and
    of the final sum too. U, S, h, R and C are taken 0.1% larger than they come out. The minimum over the rows that
    `merged` makes is that over all.
    """
    near = minimum(problem)
    U = _ABOVE * problem.value(near.z, near.b)
    half = minimum(replace(problem, tau=problem.tau / 2))
    S = radius(problem, half.z, half.b, U)
    excess = minorant(problem, near.z, near.b).norm / problem.tau - 1
    if excess > 0:
        near = minimum(replace(problem, tau=problem.tau * (1 - 2 * excess)))
    return bound_at(problem, near.z, near.b, U, S)


def bound_at(problem: OrdinalProblem, z: Array, b: Array, U: float, S: float) -> float:
    """Return the bound at a point; valid at any, tight near the minimum."""
    below = minorant(problem, z, b)
    cost = _bias_cost(problem, below.r, _reach(problem, U, S, b))
    return below.V - cost - max(0.0, below.norm - problem.tau) * S


def radius(problem: OrdinalProblem, z: Array, b: Array, U: float) -> float:
    """Bound |Z| where F <= U, with the help of a point with |Y| < tau."""
    below = minorant(problem, z, b)
    S = _ABOVE * U / problem.tau
    if below.norm >= problem.tau:
        return S
    for _ in range(2):  # with a smaller S, C is smaller
        cost = _bias_cost(problem, below.r, _reach(problem, U, S, b))
        S = min(S, _ABOVE * (U - below.V + cost) / (problem.tau - below.norm))
    return S


class Minorant(NamedTuple):
    """V of `lower_bound`, rounded down, and |Y| and the |r_k|, rounded up."""

    V: float
    norm: float
    r: Array


def minorant(problem: OrdinalProblem, z: Array, b: Array) -> Minorant:
    """Return what the bounds need at a point."""
    lo, hi = problem.ends(b)
    terms, w = problem.terms(z, b), problem.weights
    wrong = _errors(terms, z, lo, hi)
    of_sum = (32 + len(z)) * UNIT
    V = float(w @ (terms.loss - terms.slope * z)) + 0.5 * problem.lambda_b * float(b @ b)
    V -= float(w @ (wrong.loss + abs(z) * wrong.slope))
    V -= of_sum * float(w @ (terms.loss + abs(terms.slope * z)) + problem.lambda_b * (b @ b))
    norm = float(np.linalg.norm(w * terms.slope / problem.root)) * (1 + of_sum)
    norm += float(np.linalg.norm(w * wrong.slope / problem.root))
    if not problem.bias:
        return Minorant(V, norm, np.zeros(problem.biases))
    r = abs(problem.bias_gradient(terms) + problem.lambda_b * b) + problem.bias_sizes(wrong)
    return Minorant(V, norm, r + of_sum * (problem.bias_sizes(terms) + problem.lambda_b * abs(b)))


def _errors(terms: Terms, z: Array, lo: Array, hi: Array) -> Terms:
    """Bound the errors of loss, slope, of_hi and of_lo; what the other fields hold is of no use."""
    above, below = (np.where(np.isfinite(t), abs(t) + abs(z), 0.0) for t in (hi, lo))
    moved = terms.at_hi * above + terms.at_lo * below
    apart = terms.between * np.where(np.isfinite(hi - lo), hi - lo, 0.0)
    errors = terms._replace(
        loss=terms.loss + terms.of_hi * above + terms.of_lo * below,
        slope=abs(terms.slope) + moved,
        of_hi=terms.of_hi + moved + apart,
        of_lo=terms.of_lo + moved + apart,
    )
    return Terms(*(_OF_A_FUNCTION * field for field in errors))


def _reach(problem: OrdinalProblem, U: float, S: float, b: Array) -> Array:
    """Bound how far from b a bias with F <= U and |Z| <= S can be: see `lower_bound`."""
    h = U / problem.weights
    far = _ABOVE * ((np.sqrt(2 * h) if problem.link == "probit" else h) + S / problem.root)
    least, most = np.full(problem.biases, -math.inf), np.full(problem.biases, math.inf)
    if problem.thresholds is None:
        inner = problem.labels[problem.labels < problem.levels - 1], problem.labels[problem.labels > 0] - 1
        np.maximum.at(least, inner[0], -far[problem.labels < problem.levels - 1])
        np.minimum.at(most, inner[1], far[problem.labels > 0])
        least, most = np.maximum.accumulate(least), np.minimum.accumulate(most[::-1])[::-1]
    else:
        least[0] = (problem.thresholds[problem.labels] - far).max()
        most[0] = (problem.thresholds[problem.labels + 1] + far).min()
    return np.asarray(_ABOVE * np.maximum(abs(b - least), abs(most - b)))


def _bias_cost(problem: OrdinalProblem, r: Array, reach: Array) -> float:
    """Bound how much <r, b - b0> + lambda_b/2 |b - b0|^2 can be below zero."""
    by_reach = float((r * reach)[r > 0].sum())
    by_decay = float(r @ r) / (2 * problem.lambda_b) if problem.lambda_b > 0 else math.inf
    return _ABOVE * min(by_reach, by_decay)
