"""Small and middle sizes as the first work of a fresh process, with several heap layouts, against NumPy and PyTorch.

    python bench/fresh.py            print the table (about 6 minutes)
    python bench/fresh.py --quick    two layouts instead of four
    python bench/fresh.py --avx2     hold every library to AVX2
    python bench/fresh.py --write    record it in bench/README.md, where both instruction sets have a place

A kernel can depend on where its arrays lie: what a process did before may hide that, or cause it. So every number comes
from a process that has done nothing else, on one thread; before its first work, each layout allocates and frees blocks
of random sizes. Libraries take turns, layout by layout.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

import instructions
import machine
import report
from layouts import measure
from peers import IMPLEMENTATIONS, OURS, TORCH
from process import Worker
from work import Work

NUMPY = "NumPy"
LAYOUTS, QUICK_LAYOUTS = 4, 2
MIDDLE = {50: 0.60, 100: 0.70, 200: 0.75, 300: 0.75}  # K = d = M, and the share of the peak wanted
AHEAD = 1.15
WORKS = [
    Work(quantity, K, d, n, dtype)
    for quantity in ("loss+grad", "HVP")
    for dtype in ("float64", "float32")
    for K, d, n in (
        *((K, K, 1) for K in (*MIDDLE, 500, 1000)),
        (64, 64, 100),
        (100, 100, 30),
        (200, 200, 10),
        (1000, 256, 1),
    )
]


def row(work: Work, times: dict[str, list[float]], peak: float) -> list[str]:
    ours = np.array(times[OURS])
    cells = [work.title, f"{np.median(ours) * 1e3:.3g} ms", f"{ours.max() * 1e3:.3g} ms"]
    wanted = AHEAD if work.K == work.d == work.M and work.K in MIDDLE and work.quantity == "loss+grad" else 1.0
    for name in (NUMPY, TORCH):
        if name not in times:
            cells.append("")
            continue
        ratios = np.array(times[name]) / ours
        holds = "yes" if ratios.min() >= wanted else "**NO**"
        cells.append(f"{np.median(ratios):.2f}x, worst {ratios.min():.2f}x (>= {wanted:g}x: {holds})")
    share = work.flops / float(np.median(ours)) / peak
    least = MIDDLE.get(work.K, 0.0) if wanted > 1 else 0.0
    verdict = f" (>= {100 * least:.0f} %: {'yes' if share >= least else '**NO**'})" if least else ""
    return [*cells, f"{100 * share:.0f} %{verdict}"]


def sections(layouts: int) -> Iterator[str]:
    names = [OURS, NUMPY, *([TORCH] if find_spec("torch") else [])]
    rows, behind = [], []
    for work in WORKS:
        times, peak = measure(work, [name for name in names if name in IMPLEMENTATIONS[work.quantity]], layouts)
        rows.append(row(work, times, peak))
        if (np.array(times[NUMPY]) < np.array(times[OURS])).any():
            behind.append(work.title)
    yield report.table(["work", "median", "worst layout", "NumPy / ours", "PyTorch / ours", "of the peak"], rows)
    yield f"Never behind NumPy: {'**NO**, but in ' + '; '.join(behind) if behind else 'yes'}."
    with Worker(1) as worker:
        yield report.table(["", ""], [list(item) for item in worker.ask(machine.description).items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.avx2:
        instructions.hold_to_avx2()
    parts = []
    for part in sections(QUICK_LAYOUTS if options.quick else LAYOUTS):
        print(part, end="\n\n", flush=True)
        parts.append(part)
    if options.write:
        report.record("fresh.py --avx2" if options.avx2 else "fresh.py", parts)


if __name__ == "__main__":
    main()
