"""A progress bar for the optimizer, on standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


@contextmanager
def follow_gap(tol: float, *, enabled: bool) -> Iterator[Callable[[OptimizeResult], None] | None]:
    """Show the certified relative gap on its way down to `tol`, on a logarithmic bar.

    Gives the callback for `ufm_fast.minimize`: None if `enabled` is False or standard error is not a terminal.
    """
    console = Console(stderr=True)
    if not (enabled and console.is_terminal):
        yield None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=-math.log10(tol))

        def show(intermediate_result: OptimizeResult) -> None:
            loss, bound = intermediate_result.fun, intermediate_result.lower_bound
            gap = (loss - bound) / abs(loss)
            progress.update(
                task,
                completed=-math.log10(min(1.0, max(gap, tol))),
                description=f"evaluation {intermediate_result.nfev}, loss {loss:.8f}, gap {gap:.1e}, "
                f"escapes {intermediate_result.escapes}",
            )

        yield show
