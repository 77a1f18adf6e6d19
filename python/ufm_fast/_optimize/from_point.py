"""Minimise from a given point: analytic escapes, balancing, certificates on a schedule."""

from __future__ import annotations

import numpy as np

from .._model.canonical import CanonicalProblem
from .._model.facts import covered
from .._model.narrowed import spanning_axes
from .._runtime.arrays import Array
from .._runtime.blas import product
from .balance import rebalance
from .bounds import bounds_for
from .curvature_escape import escape_by_curvature
from .escape import escape, holds_all_scores
from .lbfgs import STALLED, Descent
from .metrics import RENEWAL, KroneckerMetric, Metric, PairMetric
from .newton_descent import newton_descent
from .objective import Objective, State
from .record import End, Run, ToModel

_NEWTON = 150  # iterations between the times that Newton's method takes over for a while
ALIGNED = 0.7  # share of the diagonal in |A|^2 from which the pair metric serves


def minimize_from_point(problem: CanonicalProblem, A: Array, B: Array, b: Array, run: Run) -> tuple[End, int]:
    """Minimise from factors with d columns or fewer; where there may be other stationary points, by curvature out."""
    A, B, to_model = _narrowed(problem, A, B)
    objective = Objective(problem, A.shape[1], run.work)
    bounds = bounds_for(problem, run.tol, run.lower_bound, first=1e-3)
    descent = Descent(objective, bounds, run, to_model, Relocation(objective, run).relocate)
    state, status = descent.iterate(objective.at(A, B, b), KroneckerMetric(objective))
    while status == STALLED:
        further = newton_descent(objective, state)
        if further is None and not covered(problem.ufm):
            further = escape_by_curvature(objective, state)
        if further is None:
            break
        bounds.restart()
        state, status = descent.iterate(further, KroneckerMetric(objective))
    return descent.end_at(state), status


def _narrowed(problem: CanonicalProblem, A: Array, B: Array) -> tuple[Array, Array, ToModel]:
    """Return factors with no more columns than a descent can use, and the way from there to the model's.

    All iterates stay in the span of the start's rows and of what escapes add, at most K more dimensions.
    """
    K, M, d = problem.K, problem.M, A.shape[1]
    if d < problem.d:
        missing = ((0, 0), (0, problem.d - d))
        return A, B, lambda state: (np.pad(state.A, missing), np.pad(state.B, missing), state.b)
    if d <= 2 * K + M:
        return A, B, lambda state: (state.A, state.B, state.b)
    basis, _ = spanning_axes(A, B, spare=K)

    def times(X: Array, Y: Array) -> Array:
        return product(X, Y, problem.workers)

    return times(A, basis), times(B, basis), lambda state: (times(state.A, basis.T), times(state.B, basis.T), state.b)


class Relocation:
    """Other ways down than a step: an escape, and a balancing of the factors; and the metric to go on with.

    A descent whose columns hold all scores begins with the step of the convex problem that an escape is there: from a
    small random start it is nearly all the way. Others begin with the Kronecker metric, which is good anywhere. Now and
    then under this metric, and after an escape, the factors are balanced; more seldom, Newton's method takes some
    steps. Where the loss has its classes aligned and d >= K the factors are also turned into the class-aligned gauge
    then, and if they are nearly diagonal there, the pair metric serves: it costs no products and is better near the
    minimum.
    """

    def __init__(self, objective: Objective, run: Run) -> None:
        problem = objective.problem
        self.objective, self.run = objective, run
        self.wide = holds_all_scores(objective)
        withheld = float(np.median(problem.tau * problem.root / problem.weights))
        self.alignable = problem.has_classes and objective.columns >= problem.K and problem.loss.aligns(withheld)

    def relocate(self, state: State, decrease: float, stuck: bool, metric: Metric) -> tuple[State, Metric] | None:
        """Return a state further down than the promised decrease, if there is one, and its metric."""
        if self._newton_is_due() and (further := newton_descent(self.objective, state)):
            return further, self._metric_at(further)
        first = self.wide and len(self.run.rows) == 1
        escaped = self._escaped(state, decrease, stuck) if stuck or first else None
        if escaped is not None and self.wide:
            return escaped, self._metric_at(escaped)
        if escaped is None and not (first or self._balancing_is_due(metric)):
            return None
        new = rebalance(self.objective, escaped or state, self._least_gain(state, decrease), self.alignable) or escaped
        return None if new is None else (new, self._metric_at(new))

    def _escaped(self, state: State, decrease: float, stuck: bool) -> State | None:
        """Far from saddles, any gain will do: what the local model promises there may be more than all the loss."""
        least = 1e-14 * abs(state.loss) + (10 * decrease if stuck else 0.0)
        new = escape(self.objective, state, least, self.alignable)
        self.run.work.escapes += stuck and new is not None
        return new

    def _balancing_is_due(self, metric: Metric) -> bool:
        return len(self.run.rows) % RENEWAL == 0 and not isinstance(metric, PairMetric)

    def _newton_is_due(self) -> bool:
        return len(self.run.rows) % _NEWTON == 0

    def _least_gain(self, state: State, decrease: float) -> float:
        """What a balancing must gain; anything, where it also aligns."""
        return -np.inf if self.alignable else max(decrease, 1e-13 * abs(state.loss))

    def _metric_at(self, state: State) -> Metric:
        aligned = self.alignable and diagonal_share(state.A) >= ALIGNED
        return (PairMetric if aligned else KroneckerMetric)(self.objective)


def diagonal_share(A: Array) -> float:
    """Share of the squared norm that is on the diagonal."""
    return float(np.sum(np.diag(A) ** 2)) / max(float(np.vdot(A, A)), np.finfo(float).tiny)
