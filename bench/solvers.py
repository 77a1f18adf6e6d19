"""Time to a certified optimum and to a classified saddle against what people use, in the same run.

    python bench/solvers.py                 print the tables (about 20 minutes on two cores)
    python bench/solvers.py --quick         about a tenth of every size and limit: a look, not a measurement
    python bench/solvers.py --only classify only this work (solve, descend, stress, symmetry, classify, eigenpairs,
                                            collapse, zipf, imagenet21k, vocabulary, million, collapse-stress)
    python bench/solvers.py --cpu-time      on a busy machine: one thread for all, and processor time for a clock
    python bench/solvers.py --write         record the tables, and the machine they come from, in bench/README.md

Measured one run after another on an otherwise idle machine; the works from collapse on start each run in a process of
its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import clock
import long_tail_works
import machine
import report
import solver_works
import sweep
from solver_peers import warm_up
from solver_works import Claim, Scale

WORKS = solver_works.WORKS | long_tail_works.WORKS
FIGURE = Path(__file__).with_name("solvers.svg")
QUIET_LOAD = 0.7
VERDICTS = {True: "yes", False: "**NO**", None: "open: stopped too early"}


def must_show(claims: list[Claim]) -> str:
    rows = [[claim.work, claim.what, claim.target, claim.measured, VERDICTS[claim.holds]] for claim in claims]
    return report.table(["work", "what", "target", "measured", "holds"], rows)


def conditions(quick: bool, cpu_time: bool) -> Iterator[str]:
    """What a reader has to know before the numbers."""
    load = os.getloadavg()[0]
    if quick:
        yield "**Not a measurement: with --quick sizes and limits are about a tenth.**"
    if cpu_time:
        yield "Measured with --cpu-time: every library has one thread, and times are processor times."
    elif load > QUIET_LOAD:
        yield (
            f"**The machine was not idle when this run began (load {load:.1f}).** Times may be too long, and their "
            "ratios are rough; counts are exact. See --cpu-time."
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS), metavar="WORK")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.write and options.quick:
        parser.error("--write records a measurement, without --quick")
    if options.cpu_time:
        clock.use_cpu_time()

    description = ", ".join(f"{key}: {value}" for key, value in machine.description().items())
    notes = list(conditions(options.quick, options.cpu_time))
    warnings.simplefilter("ignore")  # of peers
    warm_up()
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        start = time.perf_counter()
        section = WORKS[name](Scale(options.quick))
        minutes = (time.perf_counter() - start) / 60
        parts = [
            *notes,
            must_show(section.claims),
            *section.parts,
            f"Measured in {minutes:.1f} minutes; {description}.",
        ]
        print(f"### {name}", *parts, sep="\n\n", end="\n\n", flush=True)
        if options.write:
            if section.curves:
                sweep.draw({"seconds": section.curves}, "To a certified value; peers to a loss within 1e-6", FIGURE)
            report.record(f"solvers.py {name}", parts)


if __name__ == "__main__":
    main()
