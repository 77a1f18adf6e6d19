"""Times of implementations of one work, taken in turns, with every library in a process of its own."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from statistics import median

import numpy as np

from machine import fma_peak
from peers import IMPLEMENTATIONS, OURS, TORCH_COMPILED, Call, library
from process import Failure, Worker
from work import Work

SHORTEST_SAMPLE = 0.02  # seconds: a shorter call is repeated within a sample
COLD = 0.1  # seconds: before a shorter call is timed, another brings back the caches
SLOW = 1.0  # seconds: the first call of one that takes longer counts as a sample
FEWEST, MOST = 3, 7  # samples
ENOUGH, PLENTY = 0.7, 20.0  # seconds of samples, if there are the fewest; and however few there are
PEAK = "peak"

_calls: dict[tuple[str, int], Call] = {}  # in a library's process


def prepare(work: Work, name: str, threads: int) -> tuple[float, list[np.ndarray] | None]:
    """Build a call; return the time and the answer of its first run."""
    call = _calls[name, threads] = IMPLEMENTATIONS[work.quantity][name](_kept(work), threads)
    start = time.perf_counter()
    answer = call()
    seconds = time.perf_counter() - start
    return seconds, None if answer is None else [np.asarray(part) for part in answer]


@lru_cache(maxsize=1)
def _kept(work: Work) -> Work:
    """The work of the same description that has its inputs already, if it was the last one."""
    return work


def sample(name: str, threads: int) -> float:
    """Seconds a call."""
    call = _calls[name, threads]
    seconds = _timed(call, 1)
    if seconds >= COLD:
        return seconds
    repeats = 1
    while (seconds := _timed(call, repeats)) < SHORTEST_SAMPLE:
        repeats *= 2
    return seconds / repeats


def _timed(call: Call, repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def drop() -> None:
    _calls.clear()
    gc.collect()


Workers = dict[str, Worker]


@contextmanager
def processes(threads: int) -> Iterator[Workers]:
    """One process for each library, which has loaded what it loads at its first call, and one for the peak."""
    libraries = {library(name) for implementations in IMPLEMENTATIONS.values() for name in implementations}
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(threads)) for name in [*libraries, PEAK]}
        for name in IMPLEMENTATIONS["loss+grad"]:
            if name != TORCH_COMPILED:
                with suppress(Failure):  # comes again in `measure`
                    workers[library(name)].ask(prepare, Work("loss+grad", 300, 64), name, threads)
        yield workers


def measure(work: Work, workers: Workers, threads: int, names: Collection[str] | None = None) -> dict:
    """Check and time implementations of a work (default: all); a peer that fails is left out, and the reason kept."""
    samples: dict[str, list[float]] = {}
    failures: dict[str, str] = {}

    @contextmanager
    def excused(name: str) -> Iterator[None]:
        try:
            yield
        except (Failure, AssertionError) as error:
            if library(name) == OURS:
                raise
            samples.pop(name, None)
            failures[name] = str(error)
            print(f"{name} left out: {error}", file=sys.stderr)

    for name in IMPLEMENTATIONS[work.quantity]:
        if names is None or name in names:
            with excused(name):
                seconds, answer = workers[library(name)].ask(prepare, work, name, threads)
                if answer is not None:
                    work.check(name, answer)
                samples[name] = [seconds] if seconds >= SLOW else []
    peaks = []
    while unfinished := [name for name, values in samples.items() if not _enough(values)]:
        peaks.append(workers[PEAK].ask(fma_peak, work.dtype, threads))
        for name in unfinished:
            with excused(name):
                samples[name].append(workers[library(name)].ask(sample, name, threads))
    for name in {library(name) for name in samples}:
        with suppress(Failure):
            workers[name].ask(drop)
    times = {name: median(values) for name, values in samples.items()}
    return {"title": work.title, "flops": work.flops, "peak": median(peaks), "times": times, "failures": failures}


def _enough(samples: list[float]) -> bool:
    seconds, count = sum(samples), len(samples)
    return count >= MOST or seconds >= PLENTY or (count >= FEWEST and seconds >= ENOUGH)


def scaling(work: Work, workers: Workers, threads: int) -> float:
    """Our time on one thread over that on more, both free to use as many processors."""
    worker, samples = workers[OURS], {1: [], threads: []}
    for count in samples:
        worker.ask(prepare, work, OURS, count)
    while not all(map(_enough, samples.values())):
        for count, values in samples.items():
            values.append(worker.ask(sample, OURS, count))
    worker.ask(drop)
    return median(samples[1]) / median(samples[threads])
