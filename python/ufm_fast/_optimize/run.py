"""The record of one run: counts, history, callback and limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from .._model.canonical import ClassProblem

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .objective import Array, Objective, State

_COUNTERS: dict[str, type] = {"evaluations": int, "escapes": int, "products": float, "lower_bound": float}

Callback = Callable[[OptimizeResult], Any]


class End(NamedTuple):
    """Where a descent ended, with the columns of the user's model."""

    A: Array
    B: Array
    b: Array
    loss: float


class Run:
    """Counts the work, keeps one history entry an iteration, calls the callback and fills the checkpoint.

    `products` is in units of one K x d x K matrix product. `columns` turns the factors of a state into those of the
    user's model, with d columns. A run has one or more stages; `ends` are the losses at which descents ended, `best`
    the best end or, with an infinite loss, where the next descent starts.
    """

    def __init__(
        self, q: ClassProblem, callback: Callback | None, max_evaluations: int, checkpoint: Checkpoint | None = None
    ) -> None:
        self.q, self.callback, self.max_evaluations, self.checkpoint = q, callback, max_evaluations, checkpoint
        self.columns: Callable[[State], tuple[Array, Array]] = lambda state: (state.A, state.B)
        self.state: State | None = None  # the last one recorded
        self.started = time.perf_counter()
        self.evaluations = self.escapes = 0
        self.products = 0.0
        self.lower_bound = 0.0  # the losses and penalties are nonnegative
        self.rows: list[tuple[float, int, float, float, float, bool]] = []
        self.stage = 0
        self.ends: list[float] = []
        self.best: End | None = None
        self._saved = dict(checkpoint.content) if checkpoint is not None else {}
        if self._saved:
            self.stage, self.ends = int(self._saved["stage"]), self._saved["ends"].tolist()
            if "best_A" in self._saved:
                A, B, b, loss = (self._saved[f"best_{part}"] for part in End._fields)
                self.best = End(A, B, b, float(loss))

    def finish(self, state: State) -> None:
        """End a descent at a state."""
        end = End(*self.columns(state), state.b, state.loss)
        self.ends.append(end.loss)
        if self.best is None or end.loss < self.best.loss:
            self.best = end

    def hold(self, loop: dict[str, Any]) -> None:
        """Let the checkpoint hold the run as it is, in the given state of its loop."""
        assert self.checkpoint is not None
        content: dict[str, Any] = {name: getattr(self, name) for name in (*_COUNTERS, "seconds", "stage", "ends")}
        if self.best is not None:
            content |= {f"best_{part}": value for part, value in self.best._asdict().items()}
        self.checkpoint.hold({**loop, **content, "rows": np.array(self.rows, dtype=float).reshape(-1, 6)})

    def resumed(self) -> dict[str, Any]:
        """Take up the counters of an interrupted run and return its loop; empty if there is nothing to resume."""
        saved, self._saved = self._saved, {}
        if saved:
            for name, kind in _COUNTERS.items():
                setattr(self, name, kind(saved[name]))
            self.started = time.perf_counter() - float(saved["seconds"])
            self.rows = [(row[0], int(row[1]), *row[2:5], bool(row[5])) for row in saved["rows"].tolist()]
        return saved

    @property
    def exhausted(self) -> bool:
        return self.evaluations >= self.max_evaluations

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started

    def charge(self, products: float, columns: int) -> None:
        """Add this many K x columns x K products."""
        self.products += products * columns / self.q.d

    def record(self, objective: Objective, state: State, escaped: bool) -> None:
        self.state = state
        gradient_norm = objective.gradient_norm(state)
        self.rows.append((self.seconds, self.evaluations, state.loss, self.lower_bound, gradient_norm, escaped))
        if self.callback is not None:
            self.callback(
                OptimizeResult(
                    point=self.q.point(*self.columns(state), state.b),
                    fun=state.loss,
                    lower_bound=self.lower_bound,
                    gradient_norm=gradient_norm,
                    nfev=self.evaluations,
                    escapes=self.escapes,
                    seconds=self.seconds,
                )
            )

    def history(self) -> dict[str, Any]:
        names = ("seconds", "evaluations", "loss", "lower_bound", "gradient_norm", "escaped")
        types = (float, np.int64, float, float, float, bool)
        columns = zip(*self.rows, strict=True)
        return {n: np.array(c, dtype=t) for n, t, c in zip(names, types, columns, strict=True)}
