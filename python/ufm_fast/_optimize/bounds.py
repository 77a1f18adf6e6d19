"""When to compute a lower bound along a run, and which one."""

from __future__ import annotations

import numpy as np

from .._certify.certificate import certified_gap
from .._certify.dual import Dual
from .._model.canonical import ClassProblem
from .objective import Objective, State
from .run import Run


class Bounds:
    """The best certified lower bound so far, computed when it may certify the tolerance.

    The predicted decrease of a quasi-Newton step tracks the certified gap, so the first bound waits until it is below
    `first` (relative to the loss), and a miss moves the threshold down in proportion. For cross-entropy the
    Newton-Schulz bound (two products) is used until it falls behind, which it does where the optimum is rank deficient;
    from then on, and for the other losses, the proximal bound (one eigendecomposition).
    """

    def __init__(self, q: ClassProblem, tol: float, run: Run, first: float) -> None:
        self.tol, self.run, self.first = tol, run, first
        self.dual = Dual(q)
        self.threshold = first
        self.proximal = q.loss.name != "cross_entropy" or q.loss.label_smoothing > 0
        self.gap = np.inf  # relative, at the last check

    @property
    def certified(self) -> bool:
        return bool(self.gap <= self.tol)

    def due(self, state: State, decrease: float) -> bool:
        return decrease <= self.threshold * abs(state.loss)

    def restart(self) -> None:
        """Take up the first threshold again, as after an escape."""
        self.threshold = self.first

    def promise_more(self, state: State, decrease: float) -> bool:
        """Whether the gap is far above what the local model promises, as it is near a saddle."""
        return self.gap * abs(state.loss) > 1e3 * decrease

    def update(self, objective: Objective, state: State, decrease: float) -> State:
        """Polish the state, which never raises its loss; bound the minimum there; choose when to look again."""
        dual, relative = self.dual, decrease / abs(state.loss)
        before = dual.products
        state = objective.polished(state, dual)
        rounding = objective.q.rounding(state.A, state.B, state.b, state.loss)
        self._raise(self.run.lower_bound, state.loss, rounding)
        if not (self.certified or self.proximal):
            self._raise(dual.newton_schulz_bound(state.G), state.loss, rounding)
            self.proximal = relative <= self.tol and self.gap > max(self.tol, 10 * relative)
        if self.proximal and not self.certified:
            self._raise(dual.prox_bound(state.Z, state.G), state.loss, rounding)
        if not self.certified:
            self.threshold = relative * min(0.5, max(0.1, 1.5 * self.tol / self.gap))
        self.run.charge(dual.products - before, objective.q.K)
        return state

    def _raise(self, bound: float, loss: float, rounding: float) -> None:
        self.run.lower_bound = max(self.run.lower_bound, bound)
        self.gap = certified_gap(loss, rounding, self.run.lower_bound) / loss
