"""Two MPI ranks with one thread each against one process with two threads, on the same two processors.

    python bench/mpi_ranks.py [--turns N] [--size K D M]

The interpreter needs mpi4py and petsc4py: the running one, or the one that UFM_FAST_PETSC_PYTHON names. Both sides stay
up and take turns; the side that waits sleeps. Loss, gradient and Hessian product are compared first.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from process import pin

TARGET = 1.25
PROCESSORS = 2
ROWS, CLASSES = "rows spread", "classes spread"


def works(sizes: list[int], spread: bool) -> dict[tuple[str, str], Callable[[], float]]:
    """Calls by quantity and way of spreading; each returns a number that both sides must agree on."""
    import numpy as np

    import ufm_fast as uf

    K, d, M = sizes
    ufm = uf.UFM(K, d, targets=np.arange(M) % K, lambda_W=1e-4, lambda_H=1e-7, threads=1 if spread else PROCESSORS)
    p, v = ufm.random_point(0), ufm.random_point(1)
    if not spread:
        gradient, product = lambda: ufm.loss_and_grad(p)[1], lambda: ufm.hvp(p, v)
        found = {"loss+grad": lambda: norm(gradient()), "HVP": lambda: norm(product())}
        return {(quantity, way): call for quantity, call in found.items() for way in (ROWS, CLASSES)}
    from ufm_fast.petsc import ClassParallel, Shard

    shard, head = Shard(ufm), ClassParallel(ufm)
    x, y, q, w = shard.scatter(p, None), shard.scatter(v, None), head.part(p), head.part(v)
    g = x.duplicate()

    def summed(point: Any) -> float:
        return float(np.sqrt(shard.comm.allreduce(norm(point) ** 2)))

    return {
        ("loss+grad", ROWS): lambda: shard.fun_and_grad(x, g)[1].norm(),
        ("HVP", ROWS): lambda: shard.hvp(x, y, g).norm(),
        ("loss+grad", CLASSES): lambda: summed(head.loss_and_grad(q)[1]),
        ("HVP", CLASSES): lambda: summed(head.hvp(q, w)),
    }


def norm(point: Any) -> float:
    return sum(float((part**2).sum()) for part in point) ** 0.5


def serve(sizes: list[int], spread: bool) -> None:
    """Answer requests, a line each, with seconds and the number."""
    if spread:
        from mpi4py import MPI

        from ufm_fast.petsc.together import on_first_rank

        comm = MPI.COMM_WORLD
    calls = works(sizes, spread)
    while True:
        line = on_first_rank(comm, sys.stdin.readline) if spread else sys.stdin.readline()
        if not line:
            return
        call = calls[tuple(json.loads(line))]
        if spread:
            comm.Barrier()
        begin = time.perf_counter()
        number = call()
        seconds = time.perf_counter() - begin
        if not spread or comm.rank == 0:
            print(json.dumps([seconds, number]), flush=True)


@contextmanager
def side(command: list[str], sizes: list[int], name: str) -> Iterator[Callable[[tuple[str, str]], list[float]]]:
    """A side that stays up: a function that asks it."""
    environment = {
        **os.environ, "OPENBLAS_NUM_THREADS": str(PROCESSORS), "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }  # fmt: skip
    words = [*command, str(Path(__file__)), "--serve", name, "--size", *map(str, sizes)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:

        def ask(work: tuple[str, str]) -> list[float]:
            print(json.dumps(work), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                raise SystemExit(f"the side {name} has ended")
            return json.loads(answer)

        yield ask
        process.stdin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=3, default=[2000, 256, 20_000], metavar=("K", "D", "M"))
    parser.add_argument("--serve", choices=["one", "ranks"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.size, options.serve == "ranks")
        return
    pin(PROCESSORS)
    python, mpiexec = os.environ.get("UFM_FAST_PETSC_PYTHON", sys.executable), shutil.which("mpiexec")
    if mpiexec is None:
        raise SystemExit("mpiexec is not installed")
    crowded = ["--oversubscribe"] if "Open" in subprocess.check_output([mpiexec, "--version"], text=True) else []
    ranks = [mpiexec, *crowded, "-n", str(PROCESSORS), python]
    with side([python], options.size, "one") as one, side(ranks, options.size, "ranks") as spread:
        print("K, d, M = {}, {}, {}".format(*options.size))
        for work in ((quantity, way) for way in (ROWS, CLASSES) for quantity in ("loss+grad", "HVP")):
            expected, found = one(work)[1], spread(work)[1]
            assert abs(found - expected) <= 1e-12 * expected, (work, found, expected)
            pairs = [(one(work)[0], spread(work)[0]) for _ in range(options.turns)]
            ratio = median(b / a for a, b in pairs)
            verdict = f" (<= {TARGET:g}x: {'yes' if ratio <= TARGET else '**NO**'})" if work[1] == ROWS else ""
            alone, together = (median(column) * 1e3 for column in zip(*pairs, strict=True))
            print(
                f"{work[0]}, {work[1]}: {alone:.0f} ms, two ranks {together:.0f} ms, {ratio:.2f}x{verdict}", flush=True
            )


if __name__ == "__main__":
    main()
