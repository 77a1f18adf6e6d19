"""When to compute a lower bound along a run, and which one."""

from __future__ import annotations

import numpy as np

from .._classes import ClassProblem
from .._dual import Dual
from .objective import Array, Objective, State
from .run import Run


class Bounds:
    """The best certified lower bound so far, computed when the predicted decrease says that it may certify the tolerance.

    The predicted decrease of a quasi-Newton step tracks the certified gap, so the first bound waits until it is below
    `first` (relative to the loss), and a miss moves the threshold down in proportion. The Newton-Schulz bound (two
    products) is used until it falls behind, which it does where the optimum is rank deficient; then the proximal bound
    (one eigendecomposition).
    """

    def __init__(self, q: ClassProblem, tol: float, run: Run, first: float) -> None:
        self.q, self.tol, self.run = q, tol, run
        self.dual = Dual(q)
        self.threshold = first
        self.rank_deficient = False
        self.gap = np.inf  # relative, at the last check
        self.bias: Array = np.zeros(q.K)  # best bias at the last check

    @property
    def certified(self) -> bool:
        return bool(self.gap <= self.tol)

    def due(self, state: State, decrease: float) -> bool:
        return decrease <= self.threshold * abs(state.loss)

    def promise_more(self, state: State, decrease: float) -> bool:
        """Whether the gap is far above what the local model promises, as it is near a saddle."""
        return self.gap * abs(state.loss) > 1e3 * decrease

    def update(self, objective: Objective, state: State, decrease: float) -> None:
        """Bound the minimum at this state, with the bias at its best there; then choose when to look again."""
        q, K = self.q, self.q.K
        loss, G, self.bias = state.loss, state.G, state.b
        if objective.bias_is_free:
            self.bias = q.best_bias(state.Z, state.b)
            value, G, _ = q.data_term(state.Z, self.bias)
            loss = value + objective.regularizer(state.A, state.B, self.bias)
        relative = decrease / abs(loss)
        self._raise(self.run.lower_bound, loss)
        if not (self.certified or self.rank_deficient):
            self._raise(self.dual.newton_schulz_bound(G), loss)
            self.run.charge(2, K)
            self.rank_deficient = relative <= self.tol and self.gap > max(self.tol, 10 * relative)
        if self.rank_deficient and not self.certified:
            self._raise(self.dual.prox_bound(state.Z, G), loss)
            self.run.charge(10.5, K)
        if not self.certified:
            self.threshold = relative * min(0.5, max(0.1, 1.5 * self.tol / self.gap))

    def _raise(self, bound: float, loss: float) -> None:
        self.run.lower_bound = max(self.run.lower_bound, bound)
        self.gap = max(0.0, loss - self.run.lower_bound) / abs(loss)
