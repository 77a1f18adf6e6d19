"""How many threads the core uses."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_ENVIRONMENT = "UFM_FAST_NUM_THREADS"
_chosen: int | None = None


def checked_threads(threads: int, name: str) -> int:
    """Return ``threads`` if it is a positive int, otherwise raise an error naming the argument."""
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"{name} must be a positive int, not {type(threads).__name__}")
    if threads < 1:
        raise ValueError(f"{name} must be a positive int, not {threads}")
    return threads


def set_num_threads(n: int | None) -> None:
    """Set how many threads models without a ``threads`` of their own use.

    Parameters
    ----------
    n : int or None
        Number of threads; None returns to the default: the environment variable ``UFM_FAST_NUM_THREADS`` or, without
        it, the processors this process may run on.

    Raises
    ------
    TypeError, ValueError
        If ``n`` is neither None nor a positive int.
    """
    global _chosen
    _chosen = None if n is None else checked_threads(n, "n")


def get_num_threads() -> int:
    """Return how many threads models without a ``threads`` of their own use.

    Raises
    ------
    ValueError
        If the environment variable ``UFM_FAST_NUM_THREADS`` is not a positive integer.
    """
    if _chosen is not None:
        return _chosen
    setting = os.environ.get(_ENVIRONMENT)
    if setting:
        if not setting.isdecimal() or int(setting) < 1:
            raise ValueError(f"the environment variable {_ENVIRONMENT} must be a positive integer, not {setting!r}")
        return int(setting)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def concurrently(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    """Call functions, so many at a time, started in their order; return their results. The caller's thread helps."""
    results: list[Any] = [None] * len(tasks)
    todo = iter(range(len(tasks)))

    def work() -> None:
        for i in todo:
            results[i] = tasks[i]()

    if threads == 1:
        work()
        return results
    with ThreadPoolExecutor(threads - 1) as pool:
        helpers = [pool.submit(work) for _ in range(threads - 1)]
        work()
        for helper in helpers:
            helper.result()
    return results
