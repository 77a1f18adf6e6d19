"""Minimise with no given start: a start near the minimum, pair metric, square class-aligned factors."""

from __future__ import annotations

import numpy as np

from .._exact.symmetric_problem import aligned_factors
from .._model.canonical import ClassProblem
from .bounds import Bounds
from .grouped import grouped_factors
from .lbfgs import descend
from .objective import Array, Objective, State
from .preconditioners import PairMetric
from .run import Run
from .start import squared_error_logits, zero_is_optimal


def solve(q: ClassProblem, tol: float, run: Run) -> tuple[State, int]:
    """Minimise over square (K x K) factors, whatever d is: the same minimum for every d that holds its rank."""
    K = q.K
    run.columns = lambda state: fit_columns(state, q.d)
    objective, bounds = Objective(q, K, run), Bounds(q, tol, run, first=tol)
    b = np.zeros(K)
    if q.loss.name == "mse":
        Z, decompositions = squared_error_logits(q)
        A, B = aligned_factors(Z)
        run.charge(20 * (decompositions + 2), K)
    elif zero_is_optimal(q):
        A = B = np.zeros((K, K))
        b = q.best_bias(A, b)
    else:
        A, B, b, cost = grouped_factors(q)
        run.charge(cost, K)
    return descend(objective, objective.at(A, B, b), PairMetric(objective), bounds, run, lambda *_: None)


def fit_columns(state: State, d: int) -> tuple[Array, Array]:
    """The factors of a state with d columns: padded with zeros, or the best ones of rank d."""
    missing = d - state.A.shape[1]
    if missing == 0:
        return state.A, state.B
    if missing > 0:
        A, B = (np.pad(X, ((0, 0), (0, missing))) for X in (state.A, state.B))
        return A, B
    U, s, Vt = np.linalg.svd(state.Z)
    root = np.sqrt(s[:d])
    return np.ascontiguousarray(Vt[:d].T * root), U[:, :d] * root
