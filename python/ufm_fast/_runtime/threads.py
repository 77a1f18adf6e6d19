"""How many threads the core uses."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, overload

from . import core
from .arguments import whole_number
from .control_groups import processors_allowed
from .helpers import Helper
from .warnings import warn

_ENVIRONMENT = "UFM_FAST_NUM_THREADS"
_OPENMP = "OMP_NUM_THREADS"
# How many processes of an MPI job a machine has, as its launcher says: Open MPI; MPICH and Intel MPI; MVAPICH; srun.
_LOCAL_SIZES = (
    "OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_TASKS_PER_NODE",
)  # fmt: skip
_chosen: int | None = None


@overload
def checked_threads(threads: int, name: str) -> int: ...
@overload
def checked_threads(threads: int | None, name: str) -> int | None: ...
def checked_threads(threads: int | None, name: str) -> int | None:
    """Return how many threads to start where so many are asked for: no more than there are processors, and warn then.

    None, where nobody asked, stays None.

    Raises
    ------
    TypeError, ValueError
        If it is no int from 1 to what the core can start; names it.
    """
    return None if threads is None else _fitting(whole_number(threads, name, 1, core.most_threads), name)


def _fitting(threads: int, name: str) -> int:
    most = _most_useful()
    if threads <= most:
        return threads
    processors = "processor" if most == 1 else "processors"
    warn(f"{name} is {threads}, but this process may use {most} {processors}: it is taken as {most}", UserWarning)
    return most


def _most_useful() -> int:
    """Return the number of threads above which they wait for each other."""
    return _processors(0)


def set_num_threads(n: int | None) -> None:
    """Set how many threads models without a ``threads`` of their own use.

    Parameters
    ----------
    n : int or None
        Number of threads, from 1 to 4096; None returns to the default, see `get_num_threads`. No more threads are
        started than there are processors for this process, as far as affinity and the quotas of control groups
        (containers) let it use them: more would wait for each other.

    Raises
    ------
    TypeError, ValueError
        If ``n`` is neither None nor an int from 1 to 4096.

    Warns
    -----
    UserWarning
        If ``n`` is above the number of these processors, which is then taken in its place.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> uf.set_num_threads(1)
    >>> uf.get_num_threads()
    1
    >>> uf.set_num_threads(None)
    """
    global _chosen
    _chosen = checked_threads(n, "n")


def get_num_threads() -> int:
    """Return how many threads models without a ``threads`` of their own use.

    The first of these that there is: what `set_num_threads` was given; the environment variable
    ``UFM_FAST_NUM_THREADS``; the first number of ``OMP_NUM_THREADS``, which Dask and Ray set for their workers; the
    processors that this process may use. It is never more than these: those that it may run on (its affinity) or, if
    that is less, the time that the quotas of its control groups (containers) allow, in processors, rounded up. A
    process of an MPI job takes its share of the machine only: no more than the processors of the launcher over the
    number of the job's processes on this machine. Launchers that bind processes to processors have shared them out
    already.

    Raises
    ------
    ValueError
        If ``UFM_FAST_NUM_THREADS`` is not an integer from 1 to 4096.

    Warns
    -----
    UserWarning
        Once, if ``UFM_FAST_NUM_THREADS`` is above the number of processors.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> uf.get_num_threads() >= 1
    True
    """
    if _chosen is not None:
        return _chosen
    setting = os.environ.get(_ENVIRONMENT)
    if setting:
        threads = _whole(setting)
        if not 1 <= threads <= core.most_threads:
            raise ValueError(
                f"the environment variable {_ENVIRONMENT} must be an integer between 1 and {core.most_threads}, "
                f"not {setting!r}"
            )
        return _fitting_setting(threads)
    threads = _whole(os.environ.get(_OPENMP, "").partition(",")[0].strip())
    return min(threads, _most_useful()) if threads else _share_of_processors()


@cache
def _fitting_setting(threads: int) -> int:
    return _fitting(threads, f"the environment variable {_ENVIRONMENT}")


def _whole(text: str) -> int:
    """Return the positive integer of at most nine digits that a text is, or 0 if it is none."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _share_of_processors() -> int:
    processors, local = _processors(0), processes_on_this_machine()
    return processors if local == 1 else min(processors, max(1, _processors(os.getppid()) // local))


@cache
def processes_on_this_machine() -> int:
    """Return how many processes of this process's MPI job run on this machine, as the launcher says; 1 if none does."""
    for name in _LOCAL_SIZES:
        number = re.match(r"\d{1,9}", os.environ.get(name, ""))  # of "4(x2),3" on three machines: 4
        if number:
            return max(1, int(number[0]))
    return 1


def _processors(process: int) -> int:
    """Return how many processors a process may use; 0 stands for this one. Quotas are those of this one."""
    try:
        number = len(os.sched_getaffinity(process))
    except (AttributeError, OSError):  # not on every system; the launcher is gone
        number = os.cpu_count() or 1
    return min(number, _quota())


@cache
def _quota() -> int:
    """Return how many processors are kept busy by the time that control groups allow, and at most the core's limit."""
    return math.ceil(min(processors_allowed(), default=core.most_threads))


def concurrently(tasks: Sequence[Callable[[], Any]], threads: int) -> list[Any]:
    """Call functions, so many at a time, started in their order; return their results. The caller's thread helps.

    After an error, or Ctrl-C in the caller's thread, no further one is called; those that run are not waited for.
    """
    results: list[Any] = [None] * len(tasks)
    todo = deque(range(len(tasks)))

    def work() -> None:
        while True:
            try:
                i = todo.popleft()  # which threads may share, unlike an iterator
            except IndexError:
                return
            results[i] = tasks[i]()

    helpers = []
    try:
        with contextlib.suppress(RuntimeError, MemoryError):  # no further thread can be started: others do its work
            for _ in range(min(threads, len(tasks)) - 1):
                helpers.append(Helper(work))
        work()
        for helper in helpers:
            helper.result()
    except BaseException:
        todo.clear()
        raise
    return results
