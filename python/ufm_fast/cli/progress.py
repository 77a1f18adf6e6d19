"""A progress bar for the optimizer, on standard error."""

from __future__ import annotations

import math
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


class GapProgress:
    """Follows the certified relative gap down to `tol` on a logarithmic bar; call it as the optimizer's callback.

    Shows nothing where standard error is not a terminal, or if `enabled` is False.
    """

    def __init__(self, tol: float, *, enabled: bool) -> None:
        console = Console(stderr=True)
        self._tol = tol
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[text]}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not (enabled and console.is_terminal),
        )
        self._task = self._progress.add_task("solve", total=-math.log10(tol), text="starting")

    def __enter__(self) -> GapProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, intermediate_result: OptimizeResult) -> None:
        """Show the state of the run."""
        state = intermediate_result
        gap = (state.fun - state.lower_bound) / abs(state.fun) if state.fun else 0.0
        self._progress.update(
            self._task,
            completed=-math.log10(min(1.0, max(gap, self._tol))),
            text=f"evaluation {state.nfev}, loss {state.fun:.8f}, certified gap {gap:.1e}, escapes {state.escapes}",
        )
