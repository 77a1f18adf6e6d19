"""Descend from a given point: analytic escapes, balancing, certificates on a schedule."""

from __future__ import annotations

import numpy as np

from .._curvature.critical import covered
from .._model.canonical import ClassProblem
from .._runtime.blas import product
from .balance import rebalance
from .bounds import Bounds
from .curvature_escape import escape_by_curvature
from .escape import escape
from .lbfgs import STALLED, Metric, descend
from .objective import Array, Objective, State
from .preconditioners import RENEWAL, KroneckerMetric, PairMetric
from .run import Run

ALIGNED = 0.7  # share of the diagonal in |A|^2 from which the pair metric serves


def descend_from(q: ClassProblem, A: Array, B: Array, b: Array, tol: float, run: Run) -> tuple[State, int]:
    """Minimise from factors of shape (K, d).

    Begins with the Kronecker metric, which is good anywhere. Now and then under this metric, and after an escape, the
    factors are balanced. For cross-entropy with d >= K they are also turned into the class-aligned gauge then, and if
    they are nearly diagonal there, the pair metric serves: it costs no products and is better near the minimum. (With
    label smoothing or squared error and small decays it is not.) All iterates stay in the span of the start's rows and
    of what escapes add, at most 3 K dimensions of the feature space, so a wider model is descended in that many.
    """
    K, d = q.K, q.d
    if d > 3 * K:
        basis = np.linalg.qr(np.hstack([A.T, B.T, np.eye(d, K)]))[0]
        A, B = product(A, basis, q.workers), product(B, basis, q.workers)
        run.columns = lambda state: (product(state.A, basis.T, q.workers), product(state.B, basis.T, q.workers))
    else:
        run.columns = lambda state: (state.A, state.B)
    objective, bounds = Objective(q, A.shape[1], run), Bounds(q, tol, run, first=1e-3)
    alignable = d >= K and q.loss.name == "cross_entropy" and q.loss.label_smoothing == 0

    def leap(state: State, decrease: float, stuck: bool, current: Metric) -> tuple[State, Metric] | None:
        escaped = escape(objective, state, decrease) if stuck else None
        if escaped is None and (len(run.rows) % RENEWAL or isinstance(current, PairMetric)):
            return None
        least = -np.inf if alignable else max(decrease, 1e-13 * abs(state.loss))
        new = rebalance(objective, escaped or state, least, alignable) or escaped
        if new is None:
            return None
        aligned = alignable and diagonal_share(new.A) >= ALIGNED
        return new, (PairMetric if aligned else KroneckerMetric)(objective)

    state, status = descend(objective, objective.at(A, B, b), KroneckerMetric(objective), bounds, run, leap)
    while status == STALLED and not covered(q.ufm):
        escaped = escape_by_curvature(objective, state)
        if escaped is None:
            break
        bounds.restart()
        state, status = descend(objective, escaped, KroneckerMetric(objective), bounds, run, leap)
    return state, status


def diagonal_share(A: Array) -> float:
    """Share of the squared norm that is on the diagonal."""
    return float(np.sum(np.diag(A) ** 2)) / max(float(np.vdot(A, A)), np.finfo(float).tiny)
