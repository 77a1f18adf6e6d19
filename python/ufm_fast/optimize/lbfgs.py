"""L-BFGS with a changing initial metric: the engine of both modes of minimize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from scipy.linalg.blas import daxpy

from .bounds import Bounds
from .objective import Array, Objective, State
from .run import Run

CERTIFIED, LIMIT, STALLED = 0, 1, 2


class Metric(Protocol):
    """An approximate inverse Hessian. `scaled`: whether the last pair of L-BFGS sets its scale."""

    scaled: bool

    def update(self, state: State) -> None: ...

    def apply(self, gradient: Array) -> Array: ...

    def adapt(self, unit_step_rejected: bool) -> None: ...


class Memory:
    """The last few pairs (s, y) and the two-loop recursion (Nocedal and Wright, Numerical Optimization, alg. 7.4)."""

    LENGTH = 8

    def __init__(self, scaled: bool) -> None:
        self.scaled = scaled
        self.pairs: list[tuple[Array, Array, float]] = []

    def add(self, s: Array, y: Array) -> None:
        curvature = float(s @ y)
        if curvature > 1e-10 * np.sqrt((s @ s) * (y @ y)):
            self.pairs = [*self.pairs, (s, y, curvature)][-self.LENGTH :]

    def direction(self, gradient: Array, apply: Callable[[Array], Array]) -> Array:
        r = gradient.copy()
        coefficients = []
        for s, y, curvature in reversed(self.pairs):
            coefficients.append((s @ r) / curvature)
            r = daxpy(y, r, a=-coefficients[-1])
        r = apply(r)
        if self.scaled and self.pairs:
            s, y, curvature = self.pairs[-1]
            r *= curvature / (y @ apply(y))
        for (s, y, curvature), coefficient in zip(self.pairs, reversed(coefficients), strict=True):
            r = daxpy(s, r, a=coefficient - (y @ r) / curvature)
        return -r


def line_search(objective: Objective, state: State, direction: Array, slope: float) -> tuple[State | None, bool]:
    """Backtracking to sufficient decrease from the unit step; also says whether the unit step was rejected."""
    step, rounding = 1.0, 1e-15 * abs(state.loss)
    for trial in range(40):
        if objective.run.exhausted:
            break
        try:
            new = objective.evaluate(state.x + step * direction, state.b)
        except FloatingPointError:  # overflow
            step *= 0.1
            continue
        if new.loss <= state.loss + 1e-4 * step * slope + rounding:
            return new, trial > 0
        interpolated = -slope * step**2 / (2 * (new.loss - state.loss - step * slope))
        step = min(max(interpolated, 0.1 * step), 0.5 * step)
    return None, True


def descend(
    objective: Objective,
    state: State,
    metric: Metric,
    bounds: Bounds,
    run: Run,
    leap: Callable[[State, float, bool, Metric], tuple[State, Metric] | None],
) -> tuple[State, int]:
    """Iterate until the bound certifies the tolerance, evaluations run out or nothing descends.

    Returns the last state and CERTIFIED, LIMIT or STALLED.

    `leap(state, decrease, stuck, metric)` may give a state further down than the predicted decrease, and the metric to
    go on with; stuck says that the bound leaves room for much more than that.
    """
    memory = Memory(metric.scaled)
    escapes = run.escapes
    while True:
        metric.update(state)
        direction = memory.direction(state.gradient, metric.apply)
        slope = float(state.gradient @ direction)
        if slope > 0:
            memory = Memory(metric.scaled)
            direction = memory.direction(state.gradient, metric.apply)
            slope = float(state.gradient @ direction)
        decrease = -0.5 * slope
        due = bounds.due(state, decrease)
        if due:
            polished = bounds.update(objective, state, decrease)
        run.record(objective, state, run.escapes > escapes)
        if bounds.certified:
            return polished, CERTIFIED
        escapes = run.escapes
        if run.exhausted:
            return state, LIMIT
        leapt = leap(state, decrease, due and bounds.promise_more(state, decrease), metric)
        if leapt is not None:
            state, metric = leapt
            memory = Memory(metric.scaled)
            bounds.restart()
            continue
        if decrease <= 1e-6 * bounds.tol * abs(state.loss):
            return state, STALLED
        found, rejected = line_search(objective, state, direction, slope)
        if found is None:
            if run.exhausted:
                return state, LIMIT
            if not memory.pairs:
                return state, STALLED
            memory = Memory(metric.scaled)
            continue
        metric.adapt(rejected and len(run.rows) > 1)
        memory.add(found.x - state.x, found.gradient - state.gradient)
        state = found
