"""The record of one run: counts, history, callback and limits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import OptimizeResult

from .._classes import ClassProblem

if TYPE_CHECKING:
    from .objective import Array, Objective, State

Callback = Callable[[OptimizeResult], Any]


class Run:
    """Counts the work, keeps one history entry an iteration and calls the callback.

    `products` is in units of one K x d x K matrix product. `columns` turns the factors of a state into those of the
    user's model, with d columns.
    """

    def __init__(self, q: ClassProblem, callback: Callback | None, max_evaluations: int) -> None:
        self.q, self.callback, self.max_evaluations = q, callback, max_evaluations
        self.columns: Callable[[State], tuple[Array, Array]] = lambda state: (state.A, state.B)
        self.state: State | None = None  # the last one recorded
        self.started = time.perf_counter()
        self.evaluations = self.escapes = 0
        self.products = 0.0
        self.lower_bound = 0.0  # the losses and penalties are nonnegative
        self.rows: list[tuple[float, int, float, float, float, bool]] = []

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
