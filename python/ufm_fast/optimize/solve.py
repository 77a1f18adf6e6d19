"""Minimise with no given start: closed-form start, pair metric, square class-aligned factors."""

from __future__ import annotations

import numpy as np

from .._classes import ClassProblem
from .bounds import Bounds
from .lbfgs import descend
from .objective import Array, Objective, State
from .preconditioners import PairMetric
from .run import Run
from .start import balanced_factors, closed_form_factors, squared_error_logits, zero_is_optimal


def solve(q: ClassProblem, tol: float, run: Run) -> tuple[State, int]:
    """Minimise over square (K x K) factors, whatever d is: the same minimum for every d that holds its rank."""
    K = q.K
    run.columns = lambda state: fit_columns(state, q.d)
    objective, bounds = Objective(q, K, run), Bounds(q, tol, run, first=tol)
    if q.loss.name == "mse":
        Z, decompositions = squared_error_logits(q)
        A, B = balanced_factors(Z)
        run.charge(20 * (decompositions + 2), K)
    elif zero_is_optimal(q):
        A = B = np.zeros((K, K))
    else:
        A, B = closed_form_factors(q)
        if q.loss.label_smoothing > 0:
            A, B = balanced_factors(B @ A.T)
            run.charge(41, K)
    b = q.best_bias(B @ A.T, np.zeros(K))
    return descend(objective, objective.at(A, B, b), PairMetric(objective), bounds, run, lambda *_: None)


def fit_columns(state: State, d: int) -> tuple[Array, Array]:
    """The factors of a state with d columns: padded with zeros, or the best ones of rank d."""
    missing = d - state.A.shape[1]
    if missing >= 0:
        A, B = (np.pad(X, ((0, 0), (0, missing))) for X in (state.A, state.B))
        return A, B
    U, s, Vt = np.linalg.svd(state.Z)
    root = np.sqrt(s[:d])
    return np.ascontiguousarray(Vt[:d].T * root), U[:, :d] * root
