"""Measure everything at one number of threads, in a process of its own that may use so many processors only."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

from machine import pin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--last", action="store_true", help="the largest number of threads: scaling and sweep too")
    options = parser.parse_args()

    pin(options.threads)
    warnings.simplefilter("ignore")  # of peers
    from claims import SCALED, SWEEP, WORKS, shrunk
    from peers import IMPLEMENTATIONS, OURS, SWEPT
    from timing import alternate, measure

    threads, seconds = options.threads, 1.0 if options.quick else 3.0

    def announced(works):
        for work in works:
            print(f"{threads} thread{'s' * (threads > 1)}: {work.title}", file=sys.stderr, flush=True)
            yield work.title, shrunk(work) if options.quick else work

    wanted = [work for work in WORKS if options.only in work.title]
    results = {"works": {title: measure(work, threads, seconds) for title, work in announced(wanted)}}
    if options.last and not options.only:
        results["scaling"] = {}
        for title, work in announced(SCALED):
            build = IMPLEMENTATIONS[work.quantity][OURS]
            calls = {"one": build(work, 1), "all": build(work, threads)}
            times, _ = alternate(calls, work.dtype, threads, seconds)
            results["scaling"][title] = times["one"] / times["all"]
        results["sweep"] = {}
        for title, work in announced(SWEEP):
            measured = results["works"].get(title) or measure(work, threads, seconds, SWEPT)
            results["sweep"][work.K] = measured["times"]
    options.output.write_text(json.dumps(results))


if __name__ == "__main__":
    main()
