"""L-BFGS with a changing initial metric: the engine of both modes of minimize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from .bounds import Bounds
from .objective import Array, Objective, State
from .run import Run

CERTIFIED, LIMIT, STALLED = 0, 1, 2


class Metric(Protocol):
    scaled: bool

    def update(self, state: State) -> None: ...

    def apply(self, gradient: Array) -> Array: ...

    def adapt(self, unit_step_rejected: bool) -> None: ...


class Memory:
    """The last few pairs (s, y) and the two-loop recursion (Nocedal and Wright, Numerical Optimization, 2006, alg. 7.4)."""

    def __init__(self, length: int = 8, scaled: bool = False) -> None:
        self.length, self.scaled = length, scaled
        self.pairs: list[tuple[Array, Array, float]] = []

    def add(self, s: Array, y: Array) -> None:
        curvature = s @ y
        if curvature > 1e-10 * np.sqrt((s @ s) * (y @ y)):
            self.pairs = [*self.pairs, (s, y, curvature)][-self.length :]

    def direction(self, gradient: Array, apply: Callable[[Array], Array]) -> Array:
        r = gradient.copy()
        coefficients = []
        for s, y, curvature in reversed(self.pairs):
            coefficients.append((s @ r) / curvature)
            r -= coefficients[-1] * y
        r = apply(r)
        if self.scaled and self.pairs:
            s, y, curvature = self.pairs[-1]
            r *= curvature / (y @ apply(y))
        for (s, y, curvature), coefficient in zip(self.pairs, reversed(coefficients)):
            r += (coefficient - (y @ r) / curvature) * s
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
    escape: Callable[[State, float], State | None] | None = None,
) -> tuple[State, int]:
    """Iterate until the bound certifies the tolerance (CERTIFIED), evaluations run out (LIMIT) or nothing descends (STALLED)."""
    memory = Memory(scaled=metric.scaled)
    escaped = False
    while True:
        metric.update(state)
        direction = memory.direction(state.gradient, metric.apply)
        slope = float(state.gradient @ direction)
        if slope > 0:
            memory = Memory(scaled=metric.scaled)
            direction = -metric.apply(state.gradient)
            slope = float(state.gradient @ direction)
        decrease = -0.5 * slope
        due = bounds.due(state, decrease)
        if due:
            polished = bounds.update(objective, state, decrease)
        run.record(objective, state, escaped)
        if bounds.certified:
            return polished, CERTIFIED
        escaped = False
        if run.exhausted:
            return state, LIMIT
        if due and escape is not None and bounds.promise_more(state, decrease):
            new = escape(state, decrease)
            if new is not None:
                state, memory, escaped = new, Memory(scaled=metric.scaled), True
                continue
        if decrease <= 1e-6 * bounds.tol * abs(state.loss):
            return state, STALLED
        found, rejected = line_search(objective, state, direction, slope)
        if found is None:
            if run.exhausted:
                return state, LIMIT
            if not memory.pairs:
                return state, STALLED
            memory = Memory(scaled=metric.scaled)
            continue
        metric.adapt(rejected and len(run.rows) > 1)
        memory.add(found.x - state.x, found.gradient - state.gradient)
        state = found
