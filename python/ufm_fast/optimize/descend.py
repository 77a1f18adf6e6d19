"""Descend from a given point: Kronecker metric, analytic escapes, certificates on a schedule."""

from __future__ import annotations

import numpy as np

from .._classes import ClassProblem
from .balance import rebalance
from .bounds import Bounds
from .escape import escape
from .lbfgs import descend
from .objective import Array, Objective, State
from .preconditioners import KroneckerMetric
from .run import Run

REBALANCING_INTERVAL = 20


def descend_from(q: ClassProblem, A: Array, B: Array, b: Array, tol: float, run: Run) -> tuple[State, int]:
    """Minimise from factors of shape (K, d).

    All iterates stay in the span of the start's rows and of what escapes add, at most 3 K dimensions of the feature
    space, so a wider model is descended in that many.
    """
    K, d = q.K, q.d
    if d > 3 * K:
        basis = np.linalg.qr(np.hstack([A.T, B.T, np.eye(d, K)]))[0]
        A, B = A @ basis, B @ basis
        run.columns = lambda state: (state.A @ basis.T, state.B @ basis.T)
    else:
        run.columns = lambda state: (state.A, state.B)
    objective, bounds = Objective(q, A.shape[1], run), Bounds(q, tol, run, first=1e-3)

    def leap(state: State, decrease: float, stuck: bool) -> State | None:
        new = escape(objective, state, decrease) if stuck else None
        if new is None and len(run.rows) % REBALANCING_INTERVAL == 0:
            new = rebalance(objective, state, decrease)
        return new

    return descend(objective, objective.at(A, B, b), KroneckerMetric(objective), bounds, run, leap)
