"""The dual problem of binary cross-entropy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import xlog1py, xlogy

from .._runtime.arrays import Array
from .dual import TINY, UNIT, Dual

if TYPE_CHECKING:
    from .._model.canonical import CanonicalProblem

_MIXTURES = (0.5, 0.99)


class Shares(NamedTuple):
    """A dual point, (M, K): for each entry the smaller side's share V in [0, 1], and the Y and its error that it is.

    V is the probability Q where the target is at most 1/2 and 1 - Q elsewhere.
    """

    V: Array
    Y: Array
    error: Array


class BinaryDual(Dual):
    """-data*(Y) = sum_i weight_i sum_c h(Q_ic), Q = T + (root_i / weight_i) Y in [0, 1], h the entropy of Q and 1 - Q.

    The targets T are as the loss takes them. A dual point *is* its shares V, floating-point numbers in [0, 1]: Q where
    T <= 1/2, and 1 - Q elsewhere. So both Q near 0 and 1 - Q near 0 keep relative accuracy, and every point is
    feasible but for norm and e = 0. From any Y the shares are computed and clipped to [0, 1]; what that changes in Y
    counts as norm. What remains is covered as follows, u = 2^-52.

    * Evaluating D. h(V) is a sum of two terms that are not negative, each known to a few u of its size, and all terms
      add up: (32 + max(M, K)/4) u times the sum is subtracted.
    * The norm. The Y of the shares is (weight/root) (V - T), or (weight/root) (1 - T - V), where 1 - T is exact: known
      to 3 u (V + T) weight/root, or 3 u (V + 1 - T) weight/root. The Frobenius norm of this and of the difference from
      the given Y is added to the norm.
    * Where e = 0 is a constraint, columns in which all targets are 0, or all 1, are made zero. No norm grows by that.
    * The constraint e = 0 is restored column by column, from the row i that has most to give: what e_c exceeds zero by
      is taken from Q_ic, what it lacks from 1 - Q_ic. The change in Y has one entry e_c / root_i a column, so that its
      norm is at most that of these numbers. With P the weight_i share that is taken from, and |e_c| <= P/2, the share
      at least halves, and h, whose slope there is at most the negative logarithm of the share, falls by at most
      |e_c| log(2 weight_i / P). A bound on |e| is used: the computed value and its rounding.
    """

    def __init__(self, problem: CanonicalProblem) -> None:
        super().__init__(problem)
        self.targets = targets = problem.targets
        self.mostly = targets > 0.5
        self.rest = np.where(self.mostly, 1 - targets, targets)  # the smaller side of the target
        self.sign = np.where(self.mostly, -1.0, 1.0)
        self.decided = (targets == 0).all(axis=0) | (targets == 1).all(axis=0) if self.balances else None
        self.slope = (problem.root / problem.weights)[:, None]
        if self.rest.any():
            self.floor = max(0.0, self.value(np.zeros((problem.M, problem.K))))

    def value(self, Y: Array) -> float:
        """Return D at the nearest shares to Y less the rounding allowances of the class's docstring."""
        problem = self.problem
        if self.decided is not None:
            Y = np.where(self.decided, 0.0, Y)
        shares = self._shares(Y)
        entropies = -xlogy(shares.V, shares.V) - xlog1py(1 - shares.V, -shares.V)
        value = float(problem.weights @ entropies.sum(axis=1)) * (1 - self.rounding)
        moved = float(np.linalg.norm(shares.Y - Y)) + float(np.linalg.norm(shares.error))
        if problem.bias:
            size = problem.root @ (self.rounding * abs(shares.Y) + shares.error)
            received = problem.root @ shares.Y
            if not self.balances:
                force = abs(received) + size
                value -= float(force @ force) / (2 * problem.lambda_b)
            else:
                norm, cost = self._restored(shares.V, received, size)
                moved += norm
                value -= cost
        return value - (self.norm_rounding + moved / problem.tau) * max(value, 0)

    def feasible(self, G: Array) -> Array:
        """Return G with Q or 1 - Q of each column made smaller by a factor, so that e = 0; G itself where e is free."""
        problem = self.problem
        if not self.balances:
            return G
        flow, weights = problem.root[:, None] * G, problem.weights[:, None]
        excess = flow.sum(axis=0)
        ones, zeros = flow + weights * self.targets, weights * (1 - self.targets) - flow
        flow -= ones * (np.maximum(excess, 0) / np.maximum(ones.sum(axis=0), TINY))
        flow += zeros * (np.maximum(-excess, 0) / np.maximum(zeros.sum(axis=0), TINY))
        return flow / problem.root[:, None]

    def scaled(self, F: Array, norm: float) -> Array:
        """Return F times the largest factor up to 1 that keeps it in the ball."""
        return F * min(1.0, self.problem.tau / max(norm, TINY))

    def centred(self, Y: Array) -> Array:
        """Project onto e = 0 where that is a constraint."""
        root = self.problem.root
        return Y - np.outer(root / self.problem.samples, root @ Y) if self.balances else Y

    def towards(self, Y: Array, F: Array, norm: float | None = None) -> float:
        """Return the best bound at Y and, where shares leave [0, 1], at mixtures with scaled F that do not."""
        best = max(self.floor, self.value(Y))
        V = self._unclipped(Y)
        if V.min() >= 0 and V.max() <= 1:
            return best
        inside = self.scaled(F, self.norm(F) if norm is None else norm)
        start = np.clip(self._unclipped(inside), 0, 1)
        change = V - start
        down, up = change < 0, change > 0
        with np.errstate(over="ignore"):  # where next to nothing changes there is room enough
            room = np.concatenate([start[down] / -change[down], (1 - start[up]) / change[up]])
        cut = min(1.0, float(room.min(initial=1.0)))
        return max(best, *(self.value(inside + w * cut * (Y - inside)) for w in _MIXTURES))

    def _unclipped(self, Y: Array) -> Array:
        return self.rest + self.sign * (Y * self.slope)

    def _shares(self, Y: Array) -> Shares:
        V = np.clip(self._unclipped(Y), 0.0, 1.0)
        unit = 1 / self.slope
        return Shares(V, self.sign * (V - self.rest) * unit, 3 * UNIT * (V + self.rest) * unit)

    def _restored(self, V: Array, received: Array, size: Array) -> tuple[float, float]:
        """Bound the norm of what restores e = 0, and its cost in D: infinite where no row has enough to give."""
        problem = self.problem
        columns = np.arange(problem.K)
        ones = np.where(self.mostly, 1 - V, V)
        zeros = np.where(self.mostly, V, 1 - V)
        given = problem.weights[:, None] * np.where(received > 0, ones, zeros)
        givers = given.argmax(axis=0)
        most, imbalance = given[givers, columns] * (1 - 4 * UNIT), abs(received) + size
        if not np.all(2 * imbalance <= most):
            return 0.0, math.inf
        cost = imbalance @ np.log(2 * problem.weights[givers] / np.maximum(most, TINY))
        return float(np.linalg.norm(imbalance / problem.root[givers])), float(cost)
