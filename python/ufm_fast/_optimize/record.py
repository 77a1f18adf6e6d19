"""The record of one run of minimize: its history, its best end, and what its checkpoint holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from .._model.canonical import CanonicalProblem
from .._model.point import Point
from .._runtime.arrays import Array
from .bounds import AnyBounds
from .checkpoint import Checkpoint
from .objective import Objective, State
from .work import Work

_COUNTERS: dict[str, type] = {"evaluations": int, "escapes": int, "products": float}

Callback = Callable[[OptimizeResult], Any]
#: Turns a state into factors, with d columns, and the bias of the user's model.
ToModel = Callable[[State], tuple[Array, Array, Array]]


class End(NamedTuple):
    """Where a descent ended, with the columns of the user's model."""

    A: Array
    B: Array
    b: Array
    loss: float


class Run:
    """One run: one history entry an iteration, the callback, the stages and their ends, and the checkpoint.

    `ends` are the losses at which descents ended, `best` the best end or, with an infinite loss, where the next stage
    starts. `last` gives the last point recorded. `lower_bound` is the best of all stages, `stage` the number of those
    that have ended.
    """

    def __init__(
        self,
        problem: CanonicalProblem,
        tol: float,
        work: Work,
        callback: Callback | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.problem, self.tol, self.work, self.callback, self.checkpoint = problem, tol, work, callback, checkpoint
        self.started = time.perf_counter()
        self.lower_bound = 0.0  # the losses and penalties are nonnegative
        self.rows: list[tuple[float, int, float, float, float, bool]] = []
        self.last: Callable[[], End] | None = None
        self.stage = 0
        self.ends: list[float] = []
        self.best: End | None = None
        self._saved = dict(checkpoint.content) if checkpoint is not None else {}
        if self._saved:
            self.stage, self.ends = int(self._saved["stage"]), self._saved["ends"].tolist()
            if "best_A" in self._saved:
                A, B, b, loss = (self._saved[f"best_{part}"] for part in End._fields)
                self.best = End(A, B, b, float(loss))

    @property
    def seconds(self) -> float:
        """Time since the start, that before an interruption included."""
        return time.perf_counter() - self.started

    def finish(self, end: End) -> None:
        """End a descent."""
        self.ends.append(end.loss)
        if self.best is None or end.loss < self.best.loss:
            self.best = end

    def record(self, objective: Objective, state: State, bounds: AnyBounds, to_model: ToModel, escaped: bool) -> None:
        """Add an iteration to the history, and call the callback."""
        self.lower_bound = bounds.lower_bound
        self.last = lambda: End(*to_model(state), state.loss)
        norm = objective.gradient_norm(state)
        self.add(state.loss, norm, lambda: self.problem.point(*to_model(state)), escaped)

    def add(self, loss: float, gradient_norm: float, point: Callable[[], Point], escaped: bool = False) -> None:
        """Add an iteration with the present lower bound to the history, and call the callback."""
        evaluations = self.work.evaluations
        self.rows.append((self.seconds, evaluations, loss, self.lower_bound, gradient_norm, escaped))
        if self.callback is not None:
            self.callback(
                OptimizeResult(
                    point=point(),
                    fun=loss,
                    lower_bound=self.lower_bound,
                    gradient_norm=gradient_norm,
                    nfev=evaluations,
                    escapes=self.work.escapes,
                    seconds=self.seconds,
                )
            )

    def history(self) -> dict[str, Any]:
        """Return the history by columns."""
        names = ("seconds", "evaluations", "loss", "lower_bound", "gradient_norm", "escaped")
        types = (float, np.int64, float, float, float, bool)
        columns = zip(*self.rows, strict=True)
        return {n: np.array(c, dtype=t) for n, t, c in zip(names, types, columns, strict=True)}

    def save(self, loop: Callable[[], dict[str, Any]]) -> None:
        """Offer the checkpoint, if there is one, the run as it is, and the variables of its loop."""
        if self.checkpoint is None:
            return
        content: dict[str, Any] = {name: getattr(self.work, name) for name in _COUNTERS}
        content |= {name: getattr(self, name) for name in ("seconds", "stage", "ends", "lower_bound")}
        if self.best is not None:
            content |= {f"best_{part}": value for part, value in self.best._asdict().items()}
        self.checkpoint.offer({**loop(), **content, "rows": np.array(self.rows, dtype=float).reshape(-1, 6)})

    def resume(self) -> dict[str, Any]:
        """Take up the counters of an interrupted run and return its loop; empty if there is nothing to resume."""
        saved, self._saved = self._saved, {}
        if saved:
            for name, kind in _COUNTERS.items():
                setattr(self.work, name, kind(saved[name]))
            self.started = time.perf_counter() - float(saved["seconds"])
            self.lower_bound = float(saved["lower_bound"])
            self.rows = [(row[0], int(row[1]), *row[2:5], bool(row[5])) for row in saved["rows"].tolist()]
        return saved
