"""L-BFGS with a changing initial metric: the engine of both modes of minimize."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from .._numerics.quasi_newton import Memory, line_search
from .._runtime import core
from .bounds import Bounds
from .checkpoint import loop_content, restored_loop
from .objective import Array, Objective, State
from .run import Run

CERTIFIED, LIMIT, STALLED = 0, 1, 2
PAIRS = 3


class Metric(Protocol):
    """An approximate inverse Hessian. `scaled`: whether the last pair of L-BFGS sets its scale."""

    scaled: bool

    def update(self, state: State) -> None: ...

    def apply(self, gradient: Array) -> Array: ...

    def adapt(self, unit_step_rejected: bool) -> None: ...

    def carried(self) -> dict[str, Any]: ...

    def restore(self, carried: dict[str, Any]) -> None: ...


def new_memory(objective: Objective, state: State, metric: Metric) -> Memory:
    return Memory(state.gradient, length=PAIRS, scaled=metric.scaled, threads=objective.q.workers)


def _trial(objective: Objective, state: State, direction: Array, step: float) -> tuple[float, State] | None:
    if objective.run.exhausted:
        return None
    x = core.combination([1.0, step], [state.x, direction], objective.q.workers)
    new = objective.evaluate(x, state.b)
    return new.loss, new


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
    memory = new_memory(objective, state, metric)
    escapes = run.escapes
    if saved := run.resumed():
        state, metric, memory, escapes = restored_loop(objective, saved, bounds)
    while True:
        if run.checkpoint is not None:
            run.hold(loop_content(state, metric, memory, bounds, escapes))
        metric.update(state)
        direction, slope = memory.direction(metric.apply)
        if not slope <= 0:  # nor where it is NaN
            memory = new_memory(objective, state, metric)
            direction, slope = memory.direction(metric.apply)
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
            memory = new_memory(objective, state, metric)
            bounds.restart()
            continue
        if not decrease > 1e-6 * bounds.tol * abs(state.loss):
            return state, STALLED
        found = line_search(partial(_trial, objective, state, direction), state.loss, slope)
        if found is None:
            if run.exhausted:
                return state, LIMIT
            if not memory.s:
                return state, STALLED
            memory = new_memory(objective, state, metric)
            continue
        step, state = found
        metric.adapt(step < 1 and len(run.rows) > 1)
        memory.add(direction if step == 1 else step * direction, state.gradient)
