"""Minimise with no given start: from near the minimum, in the pair metric, over square class-aligned factors."""

from __future__ import annotations

import numpy as np

from .._model.canonical import CanonicalProblem
from .._runtime.arrays import Array
from .bounds import Bounds
from .lbfgs import Descent
from .metrics import PairMetric
from .objective import Objective, State
from .record import End, Run
from .start import start_of


def minimize_near_minimum(problem: CanonicalProblem, run: Run) -> tuple[End, int]:
    """Minimise over square (K x K) factors, whatever d is: the same minimum for every d that holds its rank."""
    start = start_of(problem)
    objective = Objective(problem, problem.K, run.work)
    bounds = Bounds(problem, run.tol, run.lower_bound, first=run.tol)
    run.work.charge(start.cost, problem.K)
    descent = Descent(objective, bounds, run, lambda state: _fitted(state, problem.d))
    return descent.run_to_end(objective.at(start.A, start.B, start.b), PairMetric(objective))


def _fitted(state: State, d: int) -> tuple[Array, Array]:
    """Return the factors of a state with d columns: padded with zeros, or the best ones of rank d."""
    missing = d - state.A.shape[1]
    if missing == 0:
        return state.A, state.B
    if missing > 0:
        A, B = (np.pad(X, ((0, 0), (0, missing))) for X in (state.A, state.B))
        return A, B
    U, s, Vt = np.linalg.svd(state.Z)
    root = np.sqrt(s[:d])
    return np.ascontiguousarray(Vt[:d].T * root), U[:, :d] * root
