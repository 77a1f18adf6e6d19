"""When to compute a lower bound along a run, and which one."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .._certify.certificate import certified_gap, relative_to
from .._certify.duals import dual_of, has_dual
from .._model.canonical import CanonicalProblem
from .objective import Objective, State

_SAVED: dict[str, type] = {"threshold": float, "proximal": bool, "gap": float, "lower_bound": float}


class NoBounds:
    """What a descent asks of bounds, where the loss has no dual problem: nothing is ever certified."""

    certified = False

    def __init__(self, tol: float, known: float) -> None:
        self.tol, self.lower_bound = tol, known

    def due(self, state: State, decrease: float) -> bool:
        """Return False."""
        return False

    def restart(self) -> None:
        """Do nothing."""

    def promise_more(self, state: State, decrease: float) -> bool:
        """Return False."""
        return False

    def update(self, objective: Objective, state: State, decrease: float) -> State:
        """Return the state."""
        return state

    def saved(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def restore(self, saved: dict[str, Any]) -> None:
        """Do nothing."""


class Bounds:
    """The best certified lower bound so far, computed when it may certify the tolerance.

    The predicted decrease of a quasi-Newton step tracks the certified gap, so the first bound waits until it is below
    `first` (relative to the loss), and a miss moves the threshold down in proportion (to a tenth at
    most, or further where the columns are few and evaluations cheap). Where the dual is one for it, the
    Newton-Schulz bound (two products) is used until it falls behind, which it does where the optimum is rank deficient;
    from then on, and for the other losses, the proximal bound (one eigendecomposition). `known` is a bound from before.
    """

    def __init__(self, problem: CanonicalProblem, tol: float, known: float, first: float) -> None:
        self.tol, self.first = tol, first
        self.lower_bound = known
        self.dual = dual_of(problem)
        self.threshold = first
        self.proximal = not self.dual.follows_newton_schulz
        self.gap = np.inf  # relative, at the last check

    @property
    def certified(self) -> bool:
        """Whether the last check certified the tolerance."""
        return bool(self.gap <= self.tol)

    def due(self, state: State, decrease: float) -> bool:
        """Whether it is time for a bound, with the decrease that the local model promises."""
        return decrease <= self.threshold * abs(state.loss)

    def restart(self) -> None:
        """Take up the first threshold again, as after an escape."""
        self.threshold = self.first

    def promise_more(self, state: State, decrease: float) -> bool:
        """Whether the gap is far above what the local model promises, as it is near a saddle."""
        return self.gap * abs(state.loss) > 1e3 * decrease

    def update(self, objective: Objective, state: State, decrease: float) -> State:
        """Polish the state, which never raises its loss; bound the minimum there; choose when to look again."""
        dual, relative = self.dual, relative_to(state.loss, decrease)
        before = dual.products
        state = objective.polished(state)
        rounding = objective.problem.rounding(state.A, state.B, state.b, state.loss)
        self._raise(self.lower_bound, state.loss, rounding)
        if not (self.certified or self.proximal):
            self._raise(dual.newton_schulz_bound(state.G), state.loss, rounding)
            self.proximal = relative <= self.tol and self.gap > max(self.tol, 10 * relative)
        if self.proximal and not self.certified:
            self._raise(dual.prox_bound(state.Z, state.G), state.loss, rounding)
        if not self.certified:
            cheap = min(1.0, objective.columns / objective.problem.K)  # an evaluation beside a bound
            self.threshold = relative * min(0.5, max(0.1 * cheap, 1.5 * self.tol / self.gap))
        K = objective.problem.K
        objective.work.charge(dual.products - before, K, K)
        return state

    def saved(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {name: getattr(self, name) for name in _SAVED}

    def restore(self, saved: dict[str, Any]) -> None:
        """Undo `saved`."""
        for name, kind in _SAVED.items():
            setattr(self, name, kind(saved[name]))

    def _raise(self, bound: float, loss: float, rounding: float) -> None:
        self.lower_bound = max(self.lower_bound, bound)
        self.gap = relative_to(loss, certified_gap(loss, rounding, self.lower_bound))


AnyBounds: TypeAlias = Bounds | NoBounds


def bounds_for(problem: CanonicalProblem, tol: float, known: float, first: float) -> AnyBounds:
    """Return bounds for a problem, or what stands for them where its loss has no dual problem."""
    return Bounds(problem, tol, known, first) if has_dual(problem.ufm) else NoBounds(tol, known)
