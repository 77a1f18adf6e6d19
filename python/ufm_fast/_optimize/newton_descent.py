"""Newton's method in a descent that has become slow: where curvatures differ by many orders of magnitude."""

from __future__ import annotations

import numpy as np
from scipy.linalg import norm

from .._numerics.newton import newton
from .factored_objective import FactoredObjective
from .objective import Objective, State

STEPS = 20
_TOLERANCE = 1e-10  # of the gradient
_ROUNDING = 1e-14  # of a loss, relative


def newton_descent(objective: Objective, state: State) -> State | None:
    """Return the state after some steps of Newton's method (truncated conjugate gradients).

    None if it is no lower, by more than rounding, and its gradient no smaller by half at the same loss.
    """
    work = objective.work
    steps = min(STEPS, work.max_evaluations - work.evaluations - 2)
    if steps < 1:
        return None
    function = FactoredObjective(objective.problem.ufm, objective.columns)
    x, _ = newton(function, function.layout.pack(state.A, state.B, state.b), _TOLERANCE, steps)
    work.evaluations += function.evaluations
    work.charge(function.products, objective.columns)
    A, B, b = function.layout.unpack(x)
    new = objective.at(np.ascontiguousarray(A), np.ascontiguousarray(B), np.ascontiguousarray(b))
    lower = new.loss < state.loss * (1 - _ROUNDING)
    level = new.loss <= state.loss * (1 + _ROUNDING) and norm(new.gradient) < norm(state.gradient) / 2
    return new if lower or level else None
