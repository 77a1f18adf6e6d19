"""Loss, gradient and Hessian products against every peer, side by side in the same run.

    python bench/kernels.py            print the tables (about 8 minutes on two cores)
    python bench/kernels.py --quick    a fifth of every size: a look, not a measurement
    python bench/kernels.py --write    record them, and the machine they come from, in bench/README.md

For each number of threads one process holds that many processors, and there every implementation is checked, then
timed in turns. Memory is measured in fresh processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import memory
import report
import sweep
from claims import MEMORY, SWEEP, shrunk
from peers import IMPLEMENTATIONS, SWEPT, TORCH_COMPILED

HERE = Path(__file__).parent
BEGIN, END = "<!-- kernels.py writes from here -->\n", "<!-- to here -->\n"


def run_workers(threads: list[int], quick: bool) -> dict[int, dict]:
    """Measure in one process for each number of threads."""
    results = {}
    for count in threads:
        with tempfile.TemporaryDirectory() as directory:
            output = Path(directory) / "results.json"
            command = [sys.executable, str(HERE / "worker.py"), f"--threads={count}", f"--output={output}"]
            command += ["--quick"] * quick + ["--last"] * (count == threads[-1])
            subprocess.run(command, check=True)
            results[count] = json.loads(output.read_text())
    return results


def measure_memory(threads: int, quick: bool) -> tuple[dict, dict[str, dict[int, float]]]:
    """Peak memory of every implementation of some works, and of some implementations over K."""

    def peak(work, name):
        print(f"memory: {work.title}, {name}", file=sys.stderr, flush=True)
        return memory.peak(shrunk(work) if quick else work, name, threads)

    table = {
        work.title: {name: peak(work, name) for name in IMPLEMENTATIONS[work.quantity] if name != TORCH_COMPILED}
        for work in MEMORY
    }
    # compiled code cannot be told apart from what its first call needs, so PyTorch compiled is left out
    over_K = {name: {work.K: peak(work, name)[1] for work in SWEEP} for name in SWEPT}
    return table, over_K


def write_report(results: dict[int, dict], quick: bool, figure: Path) -> str:
    """Measure memory, draw the figure, and return everything as Markdown."""
    last = max(results)
    peaks, memory_over_K = measure_memory(last, quick)
    swept = results[last]["sweep"]
    times_over_K = {name: {int(K): times[name] for K, times in swept.items() if name in times} for name in SWEPT}
    sweep.draw(times_over_K, memory_over_K, SWEEP[0], figure)
    sections = [
        "### Must show",
        "Ratios are peer time / our time.",
        report.must_show(results),
        "### Hessian products repeated at one point",
        "Ours keeps the softmax (`ufm.hessian(p)`), a peer its graph; all need six matrix products.",
        report.repeated(results),
        "### Threads",
        report.scaling(results[last]["scaling"], last),
        f"### Peak resident memory, {last} threads",
        report.memory(peaks),
        "### Over the number of classes",
        f"![Time and memory over K]({figure.name})",
        "### Every implementation",
        "Ratios are to ours; the share of the peak counts the operations that the algebra needs, whatever was spent.",
        report.details(results),
        *report.failures(results),
        "### Machine",
        report.table(["", ""], [list(item) for item in machine.description().items()]),
    ]
    return "\n\n".join(sections) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, available}))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("--write records measurements, and --quick makes none")

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        figure = (HERE if options.write else Path(directory)) / "kernels.svg"
        text = write_report(run_workers(sorted(options.threads), options.quick), options.quick, figure)
    text += f"\nMeasured in {(time.perf_counter() - start) / 60:.1f} minutes by `{command(options)}`.\n"
    print(text)
    if options.write:
        readme = HERE / "README.md"
        before, _, rest = readme.read_text().partition(BEGIN)
        readme.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.partition(END)[2])


def command(options: argparse.Namespace) -> str:
    return "python bench/kernels.py" + " --quick" * options.quick + " --write" * options.write


if __name__ == "__main__":
    main()
