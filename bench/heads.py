"""The data term of a batch, as training loops call it, against NumPy, PyTorch and JAX: time and memory.

    python bench/heads.py            print the table (about a quarter of an hour on two cores)
    python bench/heads.py --quick    a tenth of the rows and one process each: a look, not a measurement
    python bench/heads.py --write    record it in bench/README.md

Every number comes from a process that has done nothing but a small call, in which libraries start their threads;
libraries take turns. The answers are compared first. A bound on what any library can reach with the arithmetic of the
type is the time of three products at the processor's peak of fused multiply-adds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np

import machine
import report
from head_peers import LIBRARIES, OURS, TORCH, Head, run
from process import Failure, Worker

REPEATS, QUICK_REPEATS = 3, 1  # processes of each library; of heavy batches one
AHEAD, OF_TORCH, SPARE = 1.2, 4.0, 100.0  # of the best peer; of torch where logits exceed the cache; MiB
TOLERANCE = {"float32": 1e-3, "float64": 1e-10}
CACHE = 32 << 20
TOUCHED = 0.7  # of the memory that is free

SHAPES = [(8192, 32_000, 512), (16_384, 50_304, 64), (50_000, 10, 512), (20_000, 1000, 256), (256, 10, 512)]


def touch_memory() -> None:
    """Use most of the free memory once.

    What a virtual machine has never used comes from its host, at a cost that whoever gets it first would pay.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    subprocess.run([sys.executable, "-c", f"import numpy; numpy.ones({int(TOUCHED * free)}, 'int8')"], check=True)


def agree(head: Head, digest: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    rel = TOLERANCE[head.dtype]
    return all(
        np.allclose(x, y, rtol=rel, atol=rel * max(abs(y).max(), 1e-300)) for x, y in zip(digest, expected, strict=True)
    )


def measure(head: Head, threads: int, repeats: int) -> dict[str, tuple[float, float, float]]:
    """Return for each library the median of first and of later calls in seconds, and MiB beyond inputs and outputs."""
    found: dict[str, list[tuple[list[float], float]]] = {}
    expected = None
    for _ in range(1 if head.heavy else repeats):
        for name in LIBRARIES:
            if (name == "JAX" and not find_spec("jax")) or (name.startswith("torch") and not find_spec("torch")):
                continue
            try:
                with Worker(threads) as worker:
                    times, spare, digest = worker.ask(run, head, name, threads, limit=600)
            except Failure as failure:
                print(f"{head}: {name}: {failure}")
                continue
            expected = digest if expected is None else expected
            if not agree(head, digest, expected):
                raise SystemExit(f"{head}: {name} gives another answer")
            found.setdefault(name, []).append((times, spare))
    return {
        name: (
            float(np.median([times[0] for times, _ in runs])),
            float(np.median([np.median(times[1:]) for times, _ in runs])),
            max(spare for _, spare in runs),
        )
        for name, runs in found.items()
    }


def row(head: Head, found: dict[str, tuple[float, float, float]], threads: int) -> list[str]:
    first, later, spare = found[OURS]
    cells = [str(head), f"{first * 1e3:.3g} ms, {later * 1e3:.3g} ms"]
    for name in LIBRARIES:
        if name != OURS:
            cells.append(f"{found[name][0] / first:.2f}x, {found[name][1] / later:.2f}x" if name in found else "")
    others = {name: times for name, times in found.items() if name != OURS}
    best = min(times[1] for times in others.values())
    least = min(min(times[i] for times in others.values()) / found[OURS][i] for i in (0, 1))
    verdict = f"{least:.2f}x (>= {AHEAD:g}x: {'yes' if least >= AHEAD else '**NO**'})"
    if head.logits > CACHE and TORCH in found:
        of_torch = min(found[TORCH][i] / found[OURS][i] for i in (0, 1))
        verdict += f"; torch {of_torch:.2f}x (>= {OF_TORCH:g}x: {'yes' if of_torch >= OF_TORCH else '**NO**'})"
    peak = 6 * head.N * head.K * head.d / machine.fma_peak(head.dtype, threads)
    cells.append(f"{peak / later:.2f}, {best / peak:.2f}x")
    return [*cells, verdict, f"{spare:.0f} (<= {SPARE:.0f}: {'yes' if spare <= SPARE else '**NO**'})"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    start, description, rows = time.perf_counter(), machine.description(), []
    touch_memory()
    for N, K, d in SHAPES:
        for dtype in ("float32", "float64"):
            head = Head(max(64, N // 10) if options.quick else N, K, d, dtype)
            found = measure(head, options.threads, QUICK_REPEATS if options.quick else REPEATS)
            rows.append(row(head, found, options.threads))
            print("  ".join(rows[-1]), flush=True)
    names = [name for name in LIBRARIES if name != OURS]
    bound = "share of the peak; best peer over the peak"
    header = ["batch", "ours: first call, later ones", *names, bound, "least of both, best peer", "MiB beyond arrays"]
    parts = [
        report.table(header, rows),
        report.table(["", ""], [list(item) for item in description.items()]),
        f"Measured in {(time.perf_counter() - start) / 60:.1f} minutes.",
    ]
    print("\n\n".join(parts))
    if options.write:
        report.record("heads.py", parts)


if __name__ == "__main__":
    main()
