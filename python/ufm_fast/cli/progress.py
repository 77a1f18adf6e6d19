"""Progress bars on standard error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult


@contextmanager
def follow_gap(tol: float, *, enabled: bool) -> Iterator[Callable[[OptimizeResult], None] | None]:
    """Show the certified relative gap on its way down to `tol`, on a logarithmic bar.

    Gives the callback for `ufm_fast.minimize`: None if `enabled` is False or standard error is not a terminal.
    """
    with _bar(TimeElapsedColumn(), enabled=enabled) as progress:
        if progress is None:
            yield None
            return
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


@contextmanager
def follow_count(what: str, *, enabled: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show how many of `what` are done and when the rest will be.

    Gives a callback for (done, total): None if `enabled` is False or standard error is not a terminal.
    """
    with _bar(MofNCompleteColumn(), TimeRemainingColumn(), enabled=enabled) as progress:
        if progress is None:
            yield None
            return
        task = progress.add_task(what, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show


@contextmanager
def _bar(*columns: ProgressColumn, enabled: bool) -> Iterator[Progress | None]:
    console = Console(stderr=True)
    if not (enabled and console.is_terminal):
        yield None
        return
    description = TextColumn("{task.description}")
    with Progress(SpinnerColumn(), description, BarColumn(), *columns, console=console, transient=True) as progress:
        yield progress
