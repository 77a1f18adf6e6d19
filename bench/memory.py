"""Peak resident memory of one call, in a fresh process (Linux)."""

from __future__ import annotations

from pathlib import Path

from peers import IMPLEMENTATIONS
from process import Worker, resident
from work import Work


def peak(work: Work, name: str, threads: int) -> tuple[float, float]:
    """Return the peak in MiB, and how much of it the call added to imports, inputs and compiled code."""
    with Worker(threads) as worker:
        return worker.ask(_peak, work, name, threads)


def _peak(work: Work, name: str, threads: int) -> tuple[float, float]:
    build = IMPLEMENTATIONS[work.quantity][name]
    build(Work(work.quantity, 300, 64, dtype=work.dtype), threads)()  # libraries start their threads and buffers
    call = build(work, threads)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    answer = call()
    highest = resident("VmHWM")
    del answer
    return highest, highest - before
