"""Random models solved to a certified gap of 1e-7: every failure, every bound above a loss, and the evaluations.

    python bench/stress.py                      2000 models, one process a core
    python bench/stress.py --count 200          the first 200
    python bench/stress.py --seed 17            model 17 alone, with what was found

Model i depends on i only. Bounds are held against the lowest loss known: that of a second run to 1e-11. Besides the
run's own bound, that of a point 30 % away is tested.
"""

from __future__ import annotations

import argparse
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import ufm_fast as uf
from clock import processors
from report import table

TOLERANCE, TIGHT = 1e-7, 1e-11
ROUNDING = 1e-13
COUNT = 2000


def _levels(generator: np.random.Generator, K: int, high: int, low: int) -> NDArray[np.int64]:
    return np.where(generator.random(K) < 0.5, high, low)


def _outlier(K: int, one: int, rest: int) -> NDArray[np.int64]:
    return np.array([one] + [rest] * (K - 1))


def _geometric(K: int, ratio: float) -> NDArray[np.float64]:
    return np.geomspace(500, 500 / ratio, K)


LAWS: dict[str, Callable[[np.random.Generator, int], NDArray]] = {
    "balanced": lambda generator, K: np.full(K, generator.integers(1, 500)),
    "geometric 10:1": lambda generator, K: _geometric(K, 10),
    "geometric 100:1": lambda generator, K: _geometric(K, 100),
    "geometric 1000:1": lambda generator, K: 2 * _geometric(K, 1000),
    "two levels": lambda generator, K: _levels(generator, K, 500, generator.choice([1, 5, 50])),
    "Zipf": lambda generator, K: 1000 / np.arange(1, K + 1),
    "one giant": lambda generator, K: _outlier(K, 10_000, 1),
    "one tiny": lambda generator, K: _outlier(K, 1, 500),
    "log-normal": lambda generator, K: 50 * np.exp(generator.standard_normal(K)),
}
LOSSES = {
    "cross-entropy": uf.CrossEntropy(),
    "smoothed cross-entropy": uf.CrossEntropy(label_smoothing=0.1),
    "squared error": uf.MSE(),
}


def model(seed: int) -> tuple[uf.UFM, str]:
    """The model of this number, and the name of its loss."""
    generator = np.random.default_rng(seed)
    K = int(generator.integers(2, 91))
    law = LAWS[generator.choice(list(LAWS))]
    counts = np.maximum(1, np.round(law(generator, K))).astype(np.int64)
    name = str(generator.choice(list(LOSSES), p=[0.5, 0.25, 0.25]))
    lambda_W = 10 ** generator.uniform(-6, -2)
    lambda_H = lambda_W / counts.mean() * 10 ** generator.uniform(-1, 1)
    lambda_b = float(generator.choice([0, 1e-4, 1e-2, 1]))
    least = K if name == "squared error" and lambda_b > 0 else K - 1  # below, the optimum may not fit
    d = int(generator.choice([K, K, least, K + 5]))
    ufm = uf.UFM(K, d, counts, loss=LOSSES[name], lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b, threads=1)
    return ufm, name


@dataclass(frozen=True)
class Result:
    seed: int
    loss: str
    evaluations: int
    products: float
    seconds: float
    gap: float  # relative
    excess: float  # of the highest bound over the lowest loss, relative; positive only if a bound is wrong
    error: str

    @property
    def certified(self) -> bool:
        return not self.error and self.gap <= TOLERANCE

    @property
    def valid(self) -> bool:
        return bool(self.error) or self.excess <= ROUNDING


def examine(seed: int) -> Result:
    """Solve the model of this number, and test the bounds."""
    ufm, name = model(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", uf.ConvergenceWarning)
            run = uf.minimize(ufm, tol=TOLERANCE)
            tight = uf.minimize(ufm, tol=TIGHT)
        generator = np.random.default_rng(seed)
        away = uf.Point(*(part * (1 + 0.3 * generator.standard_normal(part.shape)) for part in run.point))
        bounds = [run.certificate.lower_bound, tight.certificate.lower_bound, uf.certify(ufm, away).lower_bound]
        lowest = min(ufm.loss(run.point), ufm.loss(tight.point))
        excess = max(bounds) / lowest - 1
        return Result(seed, name, run.nfev, run.products, run.seconds, run.certificate.relative_gap, excess, "")
    except Exception as error:
        return Result(seed, name, 0, 0.0, 0.0, np.inf, np.nan, f"{type(error).__name__}: {error}")


def run(count: int, workers: int) -> list[Result]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(examine, range(count), chunksize=10))


def summary(results: list[Result]) -> str:
    """Table of the evaluations, one row a loss."""
    rows = []
    for name in [*LOSSES, "all"]:
        these = [result for result in results if name in (result.loss, "all")]
        if not these:
            continue
        solved = [result for result in these if not result.error]
        evaluations = np.array([result.evaluations for result in solved])
        products = np.array([result.products for result in solved])
        quantiles = [f"{np.quantile(evaluations, share, method='higher'):.0f}" for share in (0.5, 0.9, 0.99, 1)]
        cells = [*quantiles, f"{np.median(products):.0f}", f"{products.max():.0f}"]
        failed = sum(not result.certified for result in these)
        rows.append([name, str(len(these)), *cells, str(failed), str(sum(not result.valid for result in these))])
    header = ["loss", "models", "median", "90 %", "99 %", "most", "products: median", "most products"]
    return table([*header, "not certified", "bounds above a loss"], rows)


def failures(results: list[Result]) -> Iterator[str]:
    for result in results:
        if not (result.certified and result.valid):
            found = result.error or f"gap {result.gap:.1e}, bound's excess {result.excess:.1e}"
            yield f"model {result.seed}, {model(result.seed)[0]!r}: {found}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, help="only this model")
    options = parser.parse_args()
    if options.seed is not None:
        print(model(options.seed)[0], examine(options.seed), sep="\n")
        return
    results = run(options.count, processors())
    print(summary(results), *failures(results), sep="\n\n")


if __name__ == "__main__":
    main()
