"""The dual problem of cross-entropy."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py

from .._model.losses import CrossEntropy
from .._runtime import core
from .._runtime.arrays import Array
from .dual import TINY, UNIT, Dual

if TYPE_CHECKING:
    from .._model.canonical import CanonicalProblem

_MIXTURES = (0.2, 0.5, 0.9, 0.99, 0.999)


class OtherEntries(NamedTuple):
    """Sums over the entries of a dual point but those at the anchors: M of rows, K of columns (`received`, `sizes`).

    The last two are root @ Y and root @ abs(Y). Q are the probabilities.
    """

    rows: Array
    absolute_rows: Array
    least: Array  # Q
    least_above: Array  # Q - margin t, t the targets
    wrong: Array  # sum of Q
    entropy: Array  # -sum of Q log Q
    target_terms: Array  # sum of t (1 - log Q)
    own_target: Array  # t at the anchor
    received: Array
    sizes: Array


class EntropicDual(Dual):
    """-data*(Y) = sum_i weight_i [entropy(Q_i) + <Q_i - T_i, iota_i>], Q_i = T_i + (root_i / weight_i) Y_i / scale.

    The affine logits of row i are scale z + iota_i, with iota_i the shift less, at the label, its margin; targets T_i
    sum to one. What follows is about the *flow* Y / scale, which is Y itself where there is no scale; it is what is
    known exactly, and Y differs from what is computed by a unit in each entry, which m of `_certify.dual` covers.

    It is -infinity unless every Q_i is a probability vector. Each row has an anchor, its label or the entry of its
    largest target. A flow *is* its other entries, the anchors being minus the exact sum of the others in their
    row. So rows sum to zero, wrong classes keep relative accuracy however small, and the anchor's probability is 1 - x
    with x their sum (its entropy by log1p). What remains is covered as follows, u = 2^-52, L = max(M, K).

    * Evaluating D. Each term is known to a few u of its size, a sum of L terms to L/8 + 20 u at worst; (32 + L/4) u
      times the sum of the terms' absolute values is subtracted, an error dq in q counting (1 + |log q|) dq.
    * The simplex. Where the target is zero, probabilities have the signs of Y's entries. Where 1 - x, or a probability
      over its target t, is within its rounding r = (32 + L/4) u of zero, its exact value may be negative. Then
      (1 - h) Y, h = 4 r / a with a the least target at an anchor, takes the place of Y: that mixes the probabilities
      with h times the targets, at least a at the anchor and t elsewhere, and all rise above their rounding.
    * The norm grows by that of the change at the anchors: a matrix with one entry a row, whose norm is the largest of
      its columns'.
    * The constraint e = 0 is restored by a flow from the classes k that receive too much (e_k > 0) to those l that
      receive too little: e_k |e_l| / s from k to l, with s the sum of all e_k > 0. Class k's is taken from one row,
      which gives class k the most: over root of that row, e_k |e_l| / s is added to the row's entries l and e_k taken
      from its entry k. Where these rows differ, what is added is a matrix of rank one with norm at most |e / root|_2,
      what is taken has one entry a row and column and no larger norm, and as they have no column in common both
      together have a norm of at most sqrt(2) |e / root|_2 (and just that for K = 2). Where rows are shared, the norm is
      at most the sum of the norms for each k, sqrt(2) e_k / root. The entropies fall by at most |e_k| (1 + |log Q|),
      and Q stays positive while e_k is less than what the row gives. Bounds on |e| and Q are used: the computed values
      and their rounding.
    """

    def __init__(self, problem: CanonicalProblem) -> None:
        super().__init__(problem)
        K, loss = problem.K, problem.loss
        assert isinstance(loss, CrossEntropy)
        self.anchors = problem.rows.anchors(K)
        self.least_anchor = float(problem.anchor_targets.min())
        self.scale = None if loss.scale is None else np.array(loss.scale)
        self.shift = np.zeros(K) if loss.shift is None else np.array(loss.shift)
        self.shift -= self.shift.min() / 2 + self.shift.max() / 2
        self.own_shift = (self.shift if loss.margin is None else self.shift - np.array(loss.margin))[self.anchors]
        absent = self.balances and bool(problem.absent.any())
        self.present = ~problem.absent if absent else None
        self.largest_scale = 1.0 if self.scale is None else float(self.scale.max())
        self.affine = loss.shift is not None or loss.margin is not None
        self.follows_newton_schulz = (
            problem.rows.labels is not None and self.least_anchor == 1 and self.scale is None and not self.affine
        )
        if self.least_anchor < 1:
            self.floor = max(0.0, self.value(np.zeros((problem.M, K))))

    @cached_property
    def targets(self) -> Array:
        """The targets as the loss takes them, (M, K)."""
        return self.problem.targets

    def value(self, Y: Array) -> float:
        """Return D(Y) less the rounding allowances of the class's docstring; -infinity outside the simplex."""
        problem = self.problem
        flow, sums = self._in_simplex(self._flow(Y))
        at_anchors = flow[np.arange(len(flow)), self.anchors]
        change = abs(at_anchors + sums.rows) + self.rounding * sums.absolute_rows
        if self.scale is not None:
            change *= self.scale[self.anchors]
        columns = self._by_anchor((change / problem.tau) ** 2)
        excess_norm = self.norm_rounding + math.sqrt(float(columns.max()))
        value = self._entropies(sums)
        if self.affine:
            value += self._of_shifts(sums)
        if problem.bias:
            sizes = sums.sizes + self._by_anchor(problem.root * sums.absolute_rows)
            imbalance = abs(sums.received - self._by_anchor(problem.root * sums.rows)) + self.rounding * sizes
            if not self.balances:
                force = imbalance if self.scale is None else imbalance * self.scale
                value -= float(force @ force) / (2 * problem.lambda_b)
            else:
                norm, cost = self._restored(flow, self._at_anchors(sums.wrong), imbalance)
                excess_norm += norm / problem.tau
                value -= cost
        return float(value - excess_norm * max(value, 0))

    def feasible(self, G: Array) -> Array:
        """Round the couplings weight_i Q_i to the transport polytope of their margins; G itself where e is free.

        That keeps them nonnegative (Altschuler, Weed and Rigollet, arXiv:1705.09634).
        """
        problem = self.problem
        if not self.balances:
            return G
        flow = self._flow(G) * problem.root[:, None]
        excess = flow.sum(axis=0)
        couplings = flow + self.targets * problem.weights[:, None]
        received = problem.class_weights
        taken = np.maximum(excess, 0) / np.maximum(received + np.maximum(excess, 0), TINY)
        rows, columns = couplings @ taken, np.maximum(-excess, 0)
        flow -= couplings * taken
        if (total := rows.sum()) > 0:
            flow += np.outer(rows / total, columns)
        flow /= problem.root[:, None]
        return flow if self.scale is None else flow * self.scale

    def scaled(self, F: Array, norm: float) -> Array:
        """Return F times the largest factor up to 1 that keeps it in the ball."""
        return F * min(1.0, self.problem.tau / max(norm, TINY))

    def centred(self, Y: Array) -> Array:
        """Project onto rows whose flows sum to zero and, where that is a constraint, e = 0.

        Then nothing flows to a class that no target gives anything.
        """
        root = self.problem.root
        if self.scale is None and self.present is None:
            Y = Y - Y.mean(axis=1, keepdims=True)
        else:
            v = np.ones(self.problem.K) if self.scale is None else 1 / self.scale
            if self.present is not None:
                Y, v = Y * self.present, v * self.present
            Y = Y - np.outer(Y @ (v / (v @ v)), v)
        return Y - np.outer(root / self.problem.samples, root @ Y) if self.balances else Y

    def towards(self, Y: Array, F: Array, norm: float | None = None) -> float:
        """Return a bound at Y or, if that is outside the simplex, the best of some mixtures with scaled F, inside."""
        value = self.value(Y)
        if value == -np.inf:
            inside = self.scaled(F, self.norm(F) if norm is None else norm)
            slope = (self.problem.root / self.problem.weights)[:, None]
            Q, change = self.targets + self._flow(inside) * slope, self._flow(Y - inside) * slope
            down = change < 0
            room = np.maximum(Q[down], 0)
            cut = float((room / np.maximum(room, -change[down])).min(initial=1.0))
            value = max(self.value(inside + w * cut * (Y - inside)) for w in _MIXTURES)
        return max(self.floor, value)

    def _flow(self, Y: Array) -> Array:
        return Y if self.scale is None else Y / self.scale

    def _sums(self, flow: Array, margin: float) -> OtherEntries:
        problem = self.problem
        return OtherEntries(*core.dual_sums(problem.core, np.ascontiguousarray(flow), margin, problem.workers))

    def _in_simplex(self, flow: Array) -> tuple[Array, OtherEntries]:
        """The flow, or where its probabilities may leave [0, 1] by their rounding a little less of it, and its sums."""
        rounding = self.rounding
        sums = self._sums(flow, rounding)
        own, least = float(self._room(sums.wrong).min()), float(sums.least_above.min())
        inside = own > rounding and least >= 0
        if not inside and own >= -rounding and float(self._sums(flow, -rounding).least_above.min()) >= 0:
            flow = (1 - 4 * rounding / self.least_anchor) * flow
            sums = self._sums(flow, rounding)
        return flow, sums

    def _room(self, wrong: Array) -> Array:
        """What must not be negative of a row whose other entries have this sum, over the size of its rounding."""
        return 1 - wrong

    def _at_anchors(self, wrong: Array) -> Array:
        """A lower bound on the probabilities at the anchors."""
        return 1 - wrong - self.rounding

    def _by_anchor(self, values: Array) -> Array:
        """Add up numbers of rows, (M,), over the rows with the same anchor, (K,)."""
        return np.asarray(np.bincount(self.anchors, values, self.problem.K), dtype=np.float64)

    def _entropies(self, sums: OtherEntries) -> float:
        """Weighted sum of the entropies of Q less their rounding; -infinity outside the simplex."""
        wrong = sums.wrong
        own = 1 - wrong
        if not (sums.least.min() >= 0 and own.min() >= 0):
            return -np.inf
        entropy = sums.entropy - xlog1py(own, -wrong)
        terms = sums.entropy + wrong * (2 - np.log(np.maximum(own, UNIT))) + 2 * sums.target_terms
        return float(self.problem.weights @ (entropy - self.rounding * (terms + entropy)))

    def _of_shifts(self, sums: OtherEntries) -> float:
        """The terms of iota less their rounding."""
        root, rounding = self.problem.root, 3 * self.rounding
        value = sums.received @ self.shift - (root * sums.rows) @ self.own_shift
        sizes = sums.sizes @ abs(self.shift) + (root * sums.absolute_rows) @ abs(self.own_shift)
        return float(value - rounding * sizes)

    def _restored(self, flow: Array, own: Array, imbalance: Array) -> tuple[float, float]:
        """Bound the norm of what restores e = 0, and its cost in D; `own`: lower bounds on the anchors' Q."""
        problem = self.problem
        givers, probabilities = self._givers(flow, own)
        if not np.all(problem.weights[givers] * probabilities >= imbalance):
            return 0.0, np.inf
        cost = float((imbalance * (1 - np.log(np.maximum(probabilities, TINY)))).sum())
        if self.affine:
            spread = np.ptp(self.shift) + float(abs(self.own_shift).max() + abs(self.shift).max())
            cost += float(imbalance.sum()) * spread
        moved = imbalance / problem.root[givers]
        distinct = len(np.unique(givers)) == len(givers)
        return self.largest_scale * math.sqrt(2) * float(np.linalg.norm(moved) if distinct else moved.sum()), cost

    def _givers(self, flow: Array, own: Array) -> tuple[NDArray[np.intp], Array]:
        """For each class the row that gives it most, and a lower bound on its probability of the class there."""
        problem = self.problem
        if problem.has_classes:
            return np.arange(problem.K), own
        targets = self.targets
        step = (problem.root / problem.weights)[:, None] * flow
        Q = targets + step - self.rounding * (targets + abs(step))
        Q[np.arange(len(flow)), self.anchors] = own
        givers = (problem.weights[:, None] * Q).argmax(axis=0)
        return givers, Q[givers, np.arange(problem.K)]
