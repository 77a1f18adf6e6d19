"""Times of the first work of a fresh process, for several layouts of its heap."""

from __future__ import annotations

import time

import numpy as np

import machine
from peers import IMPLEMENTATIONS
from process import Worker
from work import Work

LONGEST = 0.4  # seconds of timed calls


def seconds_a_call(work: Work, name: str, layout: int) -> float:
    """Median time of a call in this process, after an untimed one that is checked, with a heap of this layout."""
    generator = np.random.default_rng(layout)
    blocks = [bytearray(int(size)) for size in 10 ** generator.uniform(2, 6.5, 40 * layout)]
    del blocks[::2]
    call = IMPLEMENTATIONS[work.quantity][name](work, 1)
    work.check(name, call())
    times: list[float] = []
    while len(times) < 5 or sum(times) < LONGEST:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def measure(work: Work, names: list[str], layouts: int) -> tuple[dict[str, list[float]], float]:
    """Times by library, one a layout, and the processor's peak beside them."""
    times: dict[str, list[float]] = {name: [] for name in names}
    peaks = []
    for layout in range(layouts):
        for name in names:
            with Worker(1) as worker:
                times[name].append(worker.ask(seconds_a_call, work, name, layout))
        with Worker(1) as worker:
            peaks.append(worker.ask(machine.fma_peak, work.dtype, 1))
    return times, float(np.median(peaks))
