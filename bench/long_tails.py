"""Models with many different class counts, of which a part is given up, and our solution of one in a fresh process.

A class of n_k samples is given up, its scores like those of others, where n_k is below n* = (N tau)^2, with
tau = sqrt(lambda_W lambda_H). Here lambda_H = lambda_W / mean(n) and lambda_b = 1e-2, so n* = (N lambda_W)^2 / mean(n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

import clock
import ufm_fast as uf
from process import Failure, Worker, resident

Counts = NDArray[np.int64]

SEED = 0
KEPT = 0.4  # of the classes, where a case gives no decay
TOLERANCE = 1e-8
SHORT = 2.0  # seconds: what takes less is the median of three processes
LIMIT = 1000.0  # seconds

global_minimum, UFM = uf.global_minimum, uf.UFM  # loads what they need: imports are not timed


def geometric(K: int, most: int, least: int) -> NDArray[np.float64]:
    return np.geomspace(most, least, K)


def zipf(K: int) -> NDArray[np.float64]:
    return 1e6 / np.arange(1, K + 1)


def log_normal(K: int) -> NDArray[np.float64]:
    return 400 * np.exp(np.random.default_rng(SEED).standard_normal(K))


def levels(K: int, distinct: int) -> NDArray[np.int64]:
    """Equally many classes, or nearly so, of 5, 10, 15, ... samples."""
    return 5 * (1 + np.arange(K) % distinct)


@dataclass(frozen=True)
class Case:
    """A model by its number of classes and the law of its counts, which is rounded and at least 1."""

    name: str
    K: int
    law: Callable[..., NDArray]
    arguments: tuple[int, ...] = ()
    strength: float | None = None  # lambda_W K; None: a share KEPT of the classes is kept

    def counts(self) -> Counts:
        return np.maximum(1, np.round(self.law(self.K, *self.arguments))).astype(np.int64)

    def lambda_W(self, counts: Counts) -> float:
        if self.strength is not None:
            return self.strength / self.K
        return float(np.sqrt(threshold(counts, KEPT) * counts.mean()) / counts.sum())

    def model(self, counts: Counts) -> uf.UFM:
        lambda_W = self.lambda_W(counts)
        return UFM(self.K, self.K, counts, lambda_W=lambda_W, lambda_H=lambda_W / counts.mean(), lambda_b=1e-2)

    @property
    def title(self) -> str:
        return f"{self.name}, K = {self.K}"


def threshold(counts: Counts, share: float) -> float:
    """A number half-way between two neighbouring counts, above which are about so many of the classes."""
    values, classes = np.unique(counts, return_counts=True)
    above = np.cumsum(classes[::-1])[::-1] / len(counts)  # share of the classes with at least so many samples
    i = 1 + int(np.abs(above[1:] - share).argmin())
    return float(values[i - 1] + values[i]) / 2


def kept(ufm: uf.UFM) -> int:
    """How many classes have more samples than n*."""
    return int((ufm.counts > (ufm.N * ufm.tau) ** 2).sum())


@dataclass(frozen=True)
class Solved:
    """Our solution of a case."""

    lambda_W: float
    distinct: int  # counts
    kept: int
    seconds: float
    evaluations: int
    value: float
    gap: float  # certified, relative
    method: str
    memory: float  # MiB, the most that its process ever held

    @property
    def certified(self) -> bool:
        return self.gap <= TOLERANCE


def solve(case: Case, cpu_time: bool = False) -> Solved:
    """Solve a case in this process."""
    if cpu_time:
        clock.use_cpu_time()
    counts = case.counts()
    start = clock.now()
    ufm = case.model(counts)
    solution = global_minimum(ufm, tol=TOLERANCE)
    seconds = clock.now() - start
    memory = resident("VmHWM")
    gap, distinct = float(solution.certificate.relative_gap), len(np.unique(counts))
    return Solved(
        ufm.lambda_W, distinct, kept(ufm), seconds, solution.evaluations, solution.value, gap, solution.method, memory
    )


def measure(case: Case, limit: float = LIMIT) -> Solved | Failure:
    """Solve a case as the first work of a fresh process; of a short one, return the median of three."""
    try:
        runs = [_in_fresh_process(case, limit)]
        if runs[0].seconds < SHORT:
            runs += [_in_fresh_process(case, limit) for _ in range(2)]
    except Failure as failure:
        return failure
    middle = median(run.seconds for run in runs)
    return next(run for run in runs if run.seconds == middle)


def _in_fresh_process(case: Case, limit: float) -> Solved:
    with Worker(1 if clock.is_cpu_time() else clock.processors()) as worker:
        return worker.ask(solve, case, clock.is_cpu_time(), limit=limit)
