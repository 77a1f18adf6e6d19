"""The clock and the threads of solvers' runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

import ufm_fast as uf

REST = 0.3  # seconds in which threads of the run before stop spinning
ONE_THREAD_K = 256  # up to here peers, like our BLAS, lose more by waking threads than they gain

_cpu_time = False


def use_cpu_time() -> None:
    """Give every library one thread and count its processor's time, which a busy machine hardly changes."""
    global _cpu_time
    _cpu_time = True
    uf.set_num_threads(1)


def is_cpu_time() -> bool:
    return _cpu_time


def now() -> float:
    return time.process_time() if _cpu_time else time.perf_counter()


def processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@contextmanager
def fitting_threads(K: int) -> Iterator[None]:
    """Let peers have all processors, but one for a small model; begin when threads of the run before have stopped."""
    import torch  # what runs ours alone does without

    threads = 1 if _cpu_time or K <= ONE_THREAD_K else processors()
    time.sleep(REST)
    torch.set_num_threads(threads)
    with threadpool_limits(threads, user_api="blas"):
        yield
