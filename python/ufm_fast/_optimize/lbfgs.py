"""L-BFGS with a changing initial metric: the engine of all stages of minimize."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .._numerics.quasi_newton import Memory, line_search
from .._runtime import core
from .._runtime.arrays import Array
from .bounds import AnyBounds
from .metrics import METRICS, Metric
from .objective import Objective, State
from .record import End, Run, ToModel

CERTIFIED, LIMIT, STALLED = 0, 1, 2
PAIRS = 3

#: Given a state, the decrease that the local model promises, whether the bound leaves room for much more than that, and
#: the metric: a state further down and the metric to go on with, or None.
Relocate = Callable[[State, float, bool, Metric], tuple[State, Metric] | None]

_STATE = "x", "b", "Z", "loss", "G", "gradient"


class Descent:
    """Iterations until the bound certifies the tolerance, evaluations run out or nothing descends."""

    def __init__(
        self,
        objective: Objective,
        bounds: AnyBounds,
        run: Run,
        to_model: ToModel,
        relocate: Relocate | None = None,
    ) -> None:
        self.objective, self.bounds, self.run = objective, bounds, run
        self.to_model, self.relocate = to_model, relocate

    def run_to_end(self, state: State, metric: Metric) -> tuple[End, int]:
        """Return where it ended, and CERTIFIED, LIMIT or STALLED."""
        state, status = self.iterate(state, metric)
        return self.end_at(state), status

    def end_at(self, state: State) -> End:
        """Return a state with the columns of the user's model."""
        return End(*self.to_model(state), state.loss)

    def iterate(self, state: State, metric: Metric) -> tuple[State, int]:
        """Return the last state, and CERTIFIED, LIMIT or STALLED."""
        bounds, run, work = self.bounds, self.run, self.run.work
        memory, escapes = self._memory(state, metric), work.escapes
        if saved := run.resume():
            state, metric, memory, escapes = self._restored(saved)
        while True:
            run.save(partial(self._saved, state, metric, memory, escapes))
            metric.update(state)
            direction, slope = memory.direction(metric.apply)
            if not slope <= 0:  # nor where it is NaN
                memory = self._memory(state, metric)
                direction, slope = memory.direction(metric.apply)
            decrease = -0.5 * slope
            due = bounds.due(state, decrease)
            if due:
                polished = bounds.update(self.objective, state, decrease)
            run.record(self.objective, state, bounds, self.to_model, work.escapes > escapes)
            if bounds.certified:
                return polished, CERTIFIED
            escapes = work.escapes
            if work.exhausted:
                return state, LIMIT
            relocated = self._relocated(state, decrease, due and bounds.promise_more(state, decrease), metric)
            if relocated is not None:
                state, metric = relocated
                memory = self._memory(state, metric)
                continue
            if not decrease > 1e-6 * bounds.tol * abs(state.loss):
                return state, STALLED
            found = line_search(partial(self._trial, state, direction), state.loss, slope)
            if found is not None:
                step, state = found
                metric.adapt(step < 1 and len(run.rows) > 1)
                memory.add(direction if step == 1 else step * direction, state.gradient)
            elif work.exhausted or not memory.s:
                return state, LIMIT if work.exhausted else STALLED
            else:
                memory = self._memory(state, metric)

    def _relocated(self, state: State, decrease: float, stuck: bool, metric: Metric) -> tuple[State, Metric] | None:
        found = None if self.relocate is None else self.relocate(state, decrease, stuck, metric)
        if found is not None:
            self.bounds.restart()
        return found

    def _trial(self, state: State, direction: Array, step: float) -> tuple[float, State] | None:
        if self.run.work.exhausted:
            return None
        x = core.combination([1.0, step], [state.x, direction], self.objective.problem.workers)
        new = self.objective.evaluate(x, state.b)
        return new.loss, new

    def _memory(self, state: State, metric: Metric) -> Memory:
        return Memory(state.gradient, length=PAIRS, scaled=metric.scaled, threads=self.objective.problem.workers)

    def _saved(self, state: State, metric: Metric, memory: Memory, escapes: int) -> dict[str, Any]:
        """Give the variables of the loop as arrays by name."""
        content: dict[str, Any] = {part: getattr(state, part) for part in _STATE}
        for prefix, part in (("bounds", self.bounds), ("metric", metric), ("memory", memory)):
            content |= {f"{prefix}.{name}": value for name, value in part.saved().items()}
        return {**content, "metric": metric.name, "escaped_before": escapes}

    def _restored(self, content: dict[str, Any]) -> tuple[State, Metric, Memory, int]:
        """Undo `_saved`: fill the bounds, and make the rest anew."""
        A, B, b = self.objective.split(content["x"])
        values = {part: content[part] for part in _STATE}
        values |= {"A": A, "B": B, "b": content["b"] if b is None else b, "loss": float(content["loss"])}
        state = State(**values)
        metric = METRICS[str(content["metric"])](self.objective)
        metric.restore(_part(content, "metric"))
        memory = self._memory(state, metric)
        memory.restore(_part(content, "memory"))
        self.bounds.restore(_part(content, "bounds"))
        return state, metric, memory, int(content["escaped_before"])


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key.removeprefix(f"{name}."): value for key, value in content.items() if key.startswith(f"{name}.")}
