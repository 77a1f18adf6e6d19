"""Loss, gradient and Hessian products against every peer, side by side in the same run.

    python bench/kernels.py            print the tables (about 10 minutes on two cores)
    python bench/kernels.py --quick    a fifth of every size: a look, not a measurement
    python bench/kernels.py --only HVP  only what has this in its title, without memory and sweep
    python bench/kernels.py --write    record them, and the machine they come from, in bench/README.md

For each number of threads every library has a process that holds that many processors; every implementation is
checked, then timed in turns, while all other processes are paused. Memory is measured in fresh processes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from threadpoolctl import threadpool_limits

import machine
import memory
import report
import sweep
import timing
from claims import MEMORY, SCALED, SWEEP, WORKS, shrunk
from peers import PRODUCTS_ALONE, SWEPT, TORCH_COMPILED
from work import Work

HERE = Path(__file__).parent
FIGURE = "kernels.svg"
QUIET_LOAD = 0.7


def measure(threads: int, options: argparse.Namespace) -> dict:
    """Measure everything at one number of threads; scaling and sweep at the largest."""

    def announced(works: list[Work]) -> Iterator[tuple[str, Work]]:
        for work in works:
            print(f"{threads} thread{'s' * (threads > 1)}: {work.title}", file=sys.stderr, flush=True)
            yield work.title, shrunk(work) if options.quick else work

    with timing.processes(threads) as workers:
        wanted = announced([work for work in WORKS if options.only in work.title])
        works = {title: timing.measure(work, workers, threads) for title, work in wanted}
        results = {"works": works}
        if threads == max(options.threads) and not options.only:
            results["scaling"] = {title: timing.scaling(work, workers, threads) for title, work in announced(SCALED)}
            results["sweep"] = {
                work.K: (works.get(title) or timing.measure(work, workers, threads, SWEPT))["times"]
                for title, work in announced(SWEEP)
            }
    return results


def measure_memory(works: dict[str, dict], threads: int, quick: bool) -> tuple[dict, dict[str, dict[int, float]]]:
    """Peak memory of the implementations of some works, and of some implementations over K."""

    # what PyTorch compiles in its first call cannot be told apart from what that call needs
    but = TORCH_COMPILED, PRODUCTS_ALONE
    tabled = [(work, name) for work in MEMORY for name in works[work.title]["times"] if name not in but]
    swept = [name for name in SWEPT if name in works[SWEEP[-1].title]["times"]]
    wanted = dict.fromkeys([*tabled, *((work, name) for name in swept for work in SWEEP)])

    def peak(work: Work, name: str) -> tuple[float, float]:
        print(f"memory: {work.title}, {name}", file=sys.stderr, flush=True)
        return memory.peak(shrunk(work) if quick else work, name, threads)

    with ThreadPoolExecutor(2) as pool:  # nothing is timed
        peaks = dict(zip(wanted, pool.map(peak, *zip(*wanted, strict=True)), strict=True))
    table: dict[str, dict] = {work.title: {} for work in MEMORY}
    for work, name in tabled:
        table[work.title][name] = peaks[work, name]
    return table, {name: {work.K: peaks[work, name][1] for work in SWEEP} for name in swept}


def sections(results: dict[int, dict], quick: bool, figure: Path, description: dict[str, str]) -> Iterator[str]:
    """Yield the report as Markdown, in the order in which it becomes known; draw the figure."""
    last = max(results)
    yield "### Must show"
    yield (
        "Ratios are peer time / our time, with the peer that was compared with. Where a target is missed, two bounds "
        "are given: the ratio of a program that does only the matrix products, by NumPy's BLAS and at the processor's "
        "peak."
    )
    yield report.must_show(results)
    yield "### Hessian products repeated at one point"
    yield "Ours keeps the softmax (`ufm.hessian(p)`), a peer its graph; all need six matrix products."
    yield report.repeated(results)
    if last > 1:
        yield "### Threads"
        yield report.scaling(results[last]["scaling"], last)
    yield "### Every implementation"
    yield "Ratios are to ours; the share of the peak counts the operations that the algebra needs, whatever was spent."
    yield report.details(results)
    yield from report.failures(results)

    peaks, memory_over_K = measure_memory(results[last]["works"], last, quick)
    times_over_K = report.over_K(results[last]["sweep"])
    panels = {"seconds a call": times_over_K, "memory added by a call, MiB": memory_over_K}
    work = SWEEP[0]
    precision = "double" if work.dtype == "float64" else "single"
    sweep.draw(panels, f"{work.quantity}, {precision}, M = K, d = {work.d}", figure)
    yield f"### Peak resident memory, {last} thread{'s' * (last > 1)}"
    yield report.memory(peaks)
    yield "### Over the number of classes"
    yield f"![Time and memory over K]({figure.name})"
    yield "### Machine"
    yield report.table(["", ""], [list(item) for item in description.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, available}))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT", help="only works whose title contains this")
    options = parser.parse_args()
    if options.write and (options.quick or options.only):
        parser.error("--write records a whole run, without --quick or --only")

    start = time.perf_counter()
    description = machine.description()
    parts = []
    if (load := os.getloadavg()[0]) > QUIET_LOAD:
        parts.append(
            f"**The machine was not idle when this run began (load {load:.1f}).** Times may be too long; ratios are of "
            "implementations that run in turns, and suffer less."
        )
    if options.quick:
        parts.append("**Not a measurement: with --quick every large size is a fifth of what the tables say.**")
    print(*parts, sep="\n\n", end="\n\n", flush=True)
    with threadpool_limits(1, "blas"):  # leaves no spinning threads after a check
        results = {threads: measure(threads, options) for threads in sorted(options.threads)}
    if options.only:
        print(report.must_show(results), report.details(results), *report.failures(results), sep="\n\n")
        return
    with tempfile.TemporaryDirectory() as directory:
        figure = (HERE if options.write else Path(directory)) / FIGURE
        for part in sections(results, options.quick, figure, description):
            print(part, end="\n\n", flush=True)
            parts.append(part)
    parts.append(f"Measured in {(time.perf_counter() - start) / 60:.1f} minutes.")
    print(parts[-1])
    if options.write:
        report.record("kernels.py", parts)


if __name__ == "__main__":
    main()
