"""Times of implementations of one work, taken in turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from statistics import median

from machine import fma_peak
from peers import IMPLEMENTATIONS, OURS, PRODUCTS_ALONE, Call
from work import Work

SHORTEST_SAMPLE = 0.02  # seconds: a shorter call is repeated within a sample
REST = 0.3  # seconds before a sample, in which worker threads of the implementation before it stop spinning
FEWEST_ROUNDS, MOST_ROUNDS = 3, 15


def sample(call: Call, repeats: int) -> float:
    """Seconds a call."""
    time.sleep(REST)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def alternate(calls: dict[str, Call], dtype: str, threads: int, seconds: float) -> tuple[dict[str, float], float]:
    """Median time of each call and of the processor's peak, in turns A B ... A B ..., within about so many seconds."""
    start = time.perf_counter()
    peaks = [fma_peak(dtype, threads)]
    samples = {name: [sample(call, 1)] for name, call in calls.items()}
    repeats = {name: round(min(1e4, SHORTEST_SAMPLE / once)) or 1 for name, (once,) in samples.items()}
    samples = {name: values if repeats[name] == 1 else [] for name, values in samples.items()}
    for finished in range(1, MOST_ROUNDS):
        spent = time.perf_counter() - start
        if finished >= FEWEST_ROUNDS and spent * (finished + 1) / finished > seconds:
            break
        peaks.append(fma_peak(dtype, threads))
        for name, call in calls.items():
            samples[name].append(sample(call, repeats[name]))
    return {name: median(values) for name, values in samples.items()}, median(peaks)


def measure(work: Work, threads: int, seconds: float, names: Collection[str] | None = None) -> dict:
    """Check and time implementations of a work (default: all); a peer that fails is left out, and the reason kept."""
    calls, failures = {}, {}
    for name, build in IMPLEMENTATIONS[work.quantity].items():
        if names is not None and name not in names:
            continue
        try:
            call = build(work, threads)
            if name != PRODUCTS_ALONE:
                work.check(name, call())
            calls[name] = call
        except Exception as error:
            if name == OURS:
                raise
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            print(f"{name} left out: {failures[name]}", file=sys.stderr)
    times, peak = alternate(calls, work.dtype, threads, seconds)
    return {"title": work.title, "flops": work.flops, "peak": peak, "times": times, "failures": failures}
