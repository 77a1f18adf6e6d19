"""How many threads the core uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import core
from .arguments import whole_number

_ENVIRONMENT = "UFM_FAST_NUM_THREADS"
_chosen: int | None = None


def checked_threads(threads: int, name: str) -> int:
    """Return ``threads`` if it is an int from 1 to what the core can start, otherwise raise an error naming it."""
    return whole_number(threads, name, 1, core.most_threads)


def set_num_threads(n: int | None) -> None:
    """Set how many threads models without a ``threads`` of their own use.

    Parameters
    ----------
    n : int or None
        Number of threads, from 1 to 4096; None returns to the default: the environment variable
        ``UFM_FAST_NUM_THREADS`` or, without it, the processors this process may run on.

    Raises
    ------
    TypeError, ValueError
        If ``n`` is neither None nor an int from 1 to 4096.
    """
    global _chosen
    _chosen = None if n is None else checked_threads(n, "n")


def get_num_threads() -> int:
    """Return how many threads models without a ``threads`` of their own use.

    Raises
    ------
    ValueError
        If the environment variable ``UFM_FAST_NUM_THREADS`` is not an integer from 1 to 4096.
    """
    if _chosen is not None:
        return _chosen
    setting = os.environ.get(_ENVIRONMENT)
    if setting:
        threads = int(setting) if setting.isdecimal() and len(setting) < 10 else 0
        if not 1 <= threads <= core.most_threads:
            raise ValueError(
                f"the environment variable {_ENVIRONMENT} must be an integer between 1 and {core.most_threads}, "
                f"not {setting!r}"
            )
        return threads
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(processors, core.most_threads)


def concurrently(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    """Call functions, so many at a time, started in their order; return their results. The caller's thread helps."""
    results: list[Any] = [None] * len(tasks)
    todo = iter(range(len(tasks)))

    def work() -> None:
        for i in todo:
            results[i] = tasks[i]()

    threads = min(threads, len(tasks))
    if threads <= 1:
        work()
        return results
    with ThreadPoolExecutor(threads - 1) as pool:
        helpers = []
        try:
            for _ in range(threads - 1):
                helpers.append(pool.submit(work))
        except RuntimeError:  # no further thread can be started: the others do its work
            pass
        work()
        for helper in helpers:
            helper.result()
    return results
