"""Time to a certified optimum and to a classified saddle against what people use, in the same run.

    python bench/solvers.py                 print the tables (less than 20 minutes on two cores)
    python bench/solvers.py --quick         about a tenth of every size and limit: a look, not a measurement
    python bench/solvers.py --only classify only this work (solve, descend, stress, symmetry, classify, eigenpairs)
    python bench/solvers.py --cpu-time      on a busy machine: one thread for all, and processor time for a clock
    python bench/solvers.py --write         record them, and the machine they come from, in bench/README.md

Measured in one process, one run after another, on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings

import clock
import machine
import report
from solver_works import WORKS, Claim, Scale

QUIET_LOAD = 0.7
VERDICTS = {True: "yes", False: "**NO**", None: "open: stopped too early"}


def must_show(claims: list[Claim]) -> str:
    rows = [[claim.work, claim.what, claim.target, claim.measured, VERDICTS[claim.holds]] for claim in claims]
    return report.table(["work", "what", "target", "measured", "holds"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS), metavar="WORK")
    options = parser.parse_args()
    if options.write and (options.quick or options.only != list(WORKS)):
        parser.error("--write records a whole run, without --quick or --only")

    warnings.simplefilter("ignore")  # of peers
    start, load = time.perf_counter(), os.getloadavg()[0]
    description = machine.description()
    notes = []
    if options.cpu_time:
        clock.use_cpu_time()
        notes.append("Every library had one thread, and times are processor times.")
    elif load > QUIET_LOAD:
        notes.append(
            f"**The machine was busy with something else when this run began (load {load:.1f}): times and their ratios "
            "cannot be trusted, counts can. See --cpu-time.**"
        )
    if options.quick:
        notes.append("**Not a measurement: with --quick sizes and limits are about a tenth.**")
    claims, details = [], []
    for name in options.only:
        print(f"{name} ...", file=sys.stderr, flush=True)
        section = WORKS[name](Scale(options.quick))
        claims += section.claims
        details += [f"#### {section.title}", *section.parts] if section.parts else []
    parts = [
        *notes,
        "### Must show",
        must_show(claims),
        "### Every run",
        *details,
        "### Machine",
        report.table(["", ""], [list(item) for item in description.items()]),
        f"Measured in {(time.perf_counter() - start) / 60:.1f} minutes.",
    ]
    print(*parts, sep="\n\n")
    if options.write:
        report.record("solvers.py", parts)


if __name__ == "__main__":
    main()
