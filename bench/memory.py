"""Peak resident memory of one call, in a fresh process (Linux)."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

from work import Work


def peak(work: Work, name: str, threads: int) -> tuple[float, float]:
    """Return the peak in MiB, and how much of it the call added to imports, inputs and compiled code."""
    arguments = [json.dumps(asdict(work)), name, str(threads)]
    finished = subprocess.run([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    highest, added = map(float, finished.stdout.split())
    return highest, added


def _status(field: str) -> float:
    """MiB of a field of this process's status."""
    return int(re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=json.loads)
    parser.add_argument("name")
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    work, threads = Work(**options.work), options.threads

    from machine import pin

    pin(threads)
    warnings.simplefilter("ignore")
    from peers import IMPLEMENTATIONS

    build = IMPLEMENTATIONS[work.quantity][options.name]
    build(Work(work.quantity, 300, 64, dtype=work.dtype), threads)()  # libraries start their threads and buffers
    call = build(work, threads)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    answer = call()
    highest = _status("VmHWM")
    del answer
    print(highest, highest - before)


if __name__ == "__main__":
    main()
