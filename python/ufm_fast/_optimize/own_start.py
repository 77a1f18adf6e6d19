"""Minimise with no given start: from near the minimum, in the pair metric, over square class-aligned factors."""

from __future__ import annotations

from .._model.canonical import CanonicalProblem
from .bounds import Bounds
from .lbfgs import Descent
from .metrics import PairMetric
from .objective import Objective
from .record import End, Run
from .start import start_of


def minimize_near_minimum(problem: CanonicalProblem, run: Run) -> tuple[End, int]:
    """Minimise over square factors, whatever d is: the same minimum for every d that holds its rank.

    Over those of the problem of groups, where classes are exchangeable.
    """
    start = start_of(problem, run.tol)
    objective = Objective(start.problem, start.problem.K, run.work)
    bounds = Bounds(start.problem, run.tol, run.lower_bound, first=run.tol)
    run.work.charge(start.cost, start.problem.K, start.problem.K)
    descent = Descent(objective, bounds, run, start.to_model)
    return descent.run_to_end(objective.at(start.A, start.B, start.b), PairMetric(objective))
