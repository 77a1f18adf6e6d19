"""Measure neural collapse in features that lie in many files, on many processes: of this machine, of MPI or of Dask.

Each file is read twice: for the statistics, which are merged, and then for NC4, which needs the class means of all.
Those of this example are made by it.

    python examples/many_files.py
    mpiexec -n 2 python examples/many_files.py --by mpi
    python examples/many_files.py --by dask
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import numpy as np

import ufm_fast as uf

K, D = 10, 32


def make(folder: Path, number: int = 6) -> list[Path]:
    """Write the head of a network and files of features and labels, none of which has all classes."""
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((K, D)), 0.1 * rng.standard_normal(K)
    np.savez(folder / "head.npz", W=W, b=b)
    files = [folder / f"features{i}.npz" for i in range(number)]
    for i, file in enumerate(files):
        labels = (rng.integers(0, 3, 500) + 2 * i) % K
        H = (W[labels] + 0.9 * rng.standard_normal((500, D))).astype(np.float32)
        np.savez(file, H=H, labels=labels)
    return files


def gathered(file: Path) -> uf.NCAccumulator:
    """Return the statistics of one file."""
    with np.load(file) as arrays:
        return uf.NCAccumulator(K, D, threads=1).update(arrays["H"], arrays["labels"])


def merged(first: uf.NCAccumulator, second: uf.NCAccumulator) -> uf.NCAccumulator:
    """Return the statistics of both, which stay as they are: Dask may use them again."""
    return copy(first).merge(second)


def agreeing(W: np.ndarray, b: np.ndarray, means: np.ndarray, file: Path) -> int:
    """Count the samples of one file whose largest logit is that of the class with the nearest mean."""
    with np.load(file) as arrays:
        H = arrays["H"].astype(float)
    centre = np.nanmean(means, axis=0)  # what all have in common would cost digits
    M = means - centre
    nearest = np.nanargmax((H - centre) @ M.T - (M**2).sum(axis=1) / 2, axis=1)
    return int(np.sum((H @ W.T + b).argmax(axis=1) == nearest))


def by_processes(files: Sequence[Path], W: np.ndarray, b: np.ndarray) -> tuple[uf.NCAccumulator, int]:
    """Go through the files twice on the processors of this machine."""
    with ProcessPoolExecutor() as pool:
        total = reduce(merged, pool.map(gathered, files))
        return total, sum(pool.map(partial(agreeing, W, b, total.class_means), files))


def by_mpi(files: Sequence[Path], W: np.ndarray, b: np.ndarray) -> tuple[uf.NCAccumulator, int]:
    """The same on all ranks, each with files of its own; all return the result."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    own = files[comm.rank :: comm.size]
    total = comm.allreduce(reduce(merged, map(gathered, own), uf.NCAccumulator(K, D)), op=merged)
    return total, comm.allreduce(sum(map(partial(agreeing, W, b, total.class_means), own)))


def by_dask(files: Sequence[Path], W: np.ndarray, b: np.ndarray) -> tuple[uf.NCAccumulator, int]:
    """The same on Dask's workers, merged as a tree: those of a ``dask.distributed.Client``, if there is one."""
    from dask.bag import from_sequence

    bag = from_sequence(files, npartitions=len(files))
    total = bag.map(gathered).fold(merged, split_every=2).compute()
    return total, int(bag.map(partial(agreeing, W, b, total.class_means)).sum().compute())


WAYS = {"processes": by_processes, "mpi": by_mpi, "dask": by_dask}


def measure(files: Sequence[Path], head: Path, by: str) -> uf.NCMetrics:
    """Return all metrics of the files' features and the head."""
    with np.load(head) as arrays:
        W, b = arrays["W"], arrays["b"]
    total, alike = WAYS[by](files, W, b)
    return replace(total.result(W, b), nc4_agreement=alike / int(total.counts.sum()))


def main() -> None:
    """Make files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--by", choices=WAYS, default="processes")
    by = parser.parse_args().by
    with tempfile.TemporaryDirectory() as folder:  # of each rank its own, with the same content
        files = make(Path(folder))
        print(measure(files, Path(folder) / "head.npz", by))


if __name__ == "__main__":
    main()
