"""Work spread over workers: processes, threads or machines, of joblib or behind any function like map."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from .._runtime.arguments import shown, whole_number

Workers: TypeAlias = int | Callable[..., Iterable[Any]] | None


def checked_workers(workers: Workers) -> Workers:
    """Return ``workers`` if work can be spread over them, otherwise raise an error naming it."""
    if workers is None or callable(workers):
        return workers
    try:
        number = whole_number(workers, "workers")
    except TypeError:
        raise TypeError(f"workers must be an int, a function like map, or None, not {shown(workers)}") from None
    if number == 0:
        raise ValueError("workers must be positive, or negative as joblib counts from the last processor, not 0")
    if number != 1:
        import joblib  # noqa: F401 - that it is missing is said before any work
    return number


def runs_at_once(workers: Workers, tasks: int) -> int:
    """Return how many tasks this machine works on at a time, as far as is known here."""
    if workers is None or callable(workers) or workers == 1:
        return 1
    from joblib import effective_n_jobs
    from joblib.parallel import get_active_backend

    local = type(get_active_backend()[0]).__module__.startswith("joblib.")
    return min(effective_n_jobs(workers), tasks) if local else 1


def spread(function: Callable[[Any], Any], tasks: Sequence[Any], workers: Workers) -> Generator[Any, None, None]:
    """Yield the results of the function for the tasks, in any order, as soon as the workers give them.

    Function and tasks are pickled where workers are processes. Close the generator to cancel what has not begun.
    """
    if not tasks:
        return
    if callable(workers):
        given = workers(function, tasks)
        if not isinstance(given, Iterable):
            raise TypeError(f"workers must give the results one after another, as map does, not {shown(given)}")
        results = iter(given)
    elif workers == 1 or (workers is None and "joblib" not in sys.modules):  # which alone knows of other backends
        results = map(function, tasks)
    else:
        results = _by_joblib(function, tasks, workers)
    try:
        for result in results:  # noqa: UP028 - "yield from" would close them itself
            yield result
    finally:
        close = getattr(results, "close", None)
        if close is not None:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", UserWarning
                )  # joblib's, of work cancelled, after an error that says more
                close()


def _by_joblib(function: Callable[[Any], Any], tasks: Sequence[Any], workers: int | None) -> Iterator[Any]:
    from joblib import Parallel, delayed, effective_n_jobs

    if workers is not None:
        workers = min(effective_n_jobs(workers), len(tasks))
    calls = [delayed(function)(task) for task in tasks]
    try:
        # Workers without work for 10 s leave (within a minute): their parent may have been killed.
        parallel = Parallel(n_jobs=workers, return_as="generator_unordered", idle_worker_timeout=10)
    except ValueError:  # of a backend that gives no result before it has all, as those of multiprocessing and Ray
        return _by_lots(calls, workers)
    with _deaf_to_interrupts():
        results: Iterator[Any] = parallel(calls)
    return results


def _by_lots(calls: Sequence[Any], workers: int | None) -> Iterator[Any]:
    """Let each worker do one call, then yield what they returned, and so on."""
    from joblib import Parallel, effective_n_jobs

    size = effective_n_jobs(workers)
    with ExitStack() as stack:
        with _deaf_to_interrupts():
            parallel = stack.enter_context(Parallel(n_jobs=workers))
        for first in range(0, len(calls), size):
            yield from parallel(calls[first : first + size])


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, as this one does for this moment.

    Ctrl-C in a terminal reaches all processes, but it is the parent that ends its workers.
    """
    if threading.current_thread() is not threading.main_thread():  # which alone sets what signals do
        yield
        return
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
