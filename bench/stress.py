"""Random models solved to a certified gap: every failure, every bound above a loss, and the evaluations.

    python bench/stress.py                      2000 models, one process a core
    python bench/stress.py --count 200          the first 200
    python bench/stress.py --classes 40         of at most 40 classes each instead of 90
    python bench/stress.py --seed 17            model 17 alone, with what was found
    python bench/stress.py --collapse 500       500 models of up to 600 classes, of which some are given up
    python bench/stress.py --two-classes 20000  20000 bounds of models with two classes, against the exact minimum
    python bench/stress.py --bounds 100000      100000 bounds of small models of every loss that has certificates

`minimize` and `global_minimum` must certify a gap of 1e-7, with --collapse 1e-8; evaluations are those of `minimize`.
Model i depends on i and the number of classes only. Bounds are held against the lowest loss known: that of a second run
to 1e-11. Besides the runs' own bounds, those of a point 30 % away, of zero and of a random point are tested.

With two classes and a bias without decay the minimum is known in closed form; it is evaluated with 45 digits, and a
bound above it by any amount counts. Counts differ by factors of up to 1e12.

With --bounds the points of a model are near its minimum, anywhere, at saddles and between, and the lowest loss known is
that of the minimum, found to 1e-11, and of all of them.
"""

from __future__ import annotations

import argparse
import multiprocessing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

import certificate_models
import collapse_models
import ufm_fast as uf
from report import table

TIGHT = 1e-11
ROUNDING = 1e-13
COUNT, COLLAPSE_COUNT = 2000, 500
CLASSES = 90
DIGITS = 45
T = TypeVar("T")


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


def model(seed: int, classes: int = CLASSES) -> tuple[uf.UFM, str]:
    """The model of this number, of at most so many classes, and the name of its loss."""
    generator = np.random.default_rng(seed)
    K = int(generator.integers(2, classes + 1))
    law = LAWS[generator.choice(list(LAWS))]
    counts = np.maximum(1, np.round(law(generator, K))).astype(np.int64)
    name = str(generator.choice(list(LOSSES), p=[0.5, 0.25, 0.25]))
    lambda_W = 10 ** generator.uniform(-6, -2)
    lambda_H = lambda_W / counts.mean() * 10 ** generator.uniform(-1, 1)
    lambda_b = float(generator.choice([0, 1e-4, 1e-2, 1, 10 ** generator.uniform(-25, -5)]))
    least = K if name == "squared error" and lambda_b > 0 else K - 1  # below, the optimum may not fit
    d = int(generator.choice([K, K, least, K + 5]))
    ufm = uf.UFM(K, d, counts, loss=LOSSES[name], lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b, threads=1)
    return ufm, name


@dataclass(frozen=True)
class Family:
    """Random models by number, of at most so many classes, each of one of some kinds."""

    model: Callable[[int, int], tuple[uf.UFM, str]]
    of: str  # what tells the kinds apart
    kinds: tuple[str, ...]
    tolerance: float
    classes: int


MIXED = Family(model, "loss", tuple(LOSSES), 1e-7, CLASSES)
COLLAPSE = Family(collapse_models.model, "bias", tuple(collapse_models.BIASES), 1e-8, collapse_models.CLASSES)


@dataclass(frozen=True)
class Result:
    seed: int
    kind: str
    evaluations: int
    products: float
    seconds: float
    gap: float  # relative
    excess: float  # of the highest bound over the lowest loss, relative; positive only if a bound is wrong
    error: str = ""
    tolerance: float = MIXED.tolerance

    @property
    def certified(self) -> bool:
        return not self.error and self.gap <= self.tolerance

    @property
    def valid(self) -> bool:
        return bool(self.error) or self.excess <= ROUNDING


def random_points(ufm: uf.UFM, near: uf.Point, generator: np.random.Generator) -> list[uf.Point]:
    """A point 30 % away from one, zero, and one of any size."""
    away = uf.Point(*(part * (1 + 0.3 * generator.standard_normal(part.shape)) for part in near))
    return [away, ufm.unpack(np.zeros(ufm.size)), ufm.random_point(generator, 10 ** generator.uniform(-3, 3))]


def examine(seed: int, classes: int = CLASSES, family: Family = MIXED) -> Result:
    """Solve the model of this number, and test the bounds."""
    ufm, kind = family.model(seed, classes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", uf.ConvergenceWarning)
            run = uf.minimize(ufm, tol=family.tolerance)
            tight, minimum = uf.minimize(ufm, tol=TIGHT), uf.global_minimum(ufm, tol=family.tolerance)
        points = random_points(ufm, run.point, np.random.default_rng(seed))
        solved = [run.certificate, minimum.certificate]
        certificates = [*solved, tight.certificate, *(uf.certify(ufm, p) for p in points)]
        bounds = [certificate.lower_bound for certificate in certificates]
        lowest = min(ufm.loss(run.point), ufm.loss(tight.point))
        excess, gap = max(bounds) / lowest - 1, max(certificate.relative_gap for certificate in solved)
        return Result(seed, kind, run.nfev, run.products, run.seconds, gap, excess, tolerance=family.tolerance)
    except Exception as error:
        return Result(seed, kind, 0, 0.0, 0.0, np.inf, np.nan, f"{type(error).__name__}: {error}", family.tolerance)


def run(count: int, workers: int, classes: int | None = None, family: Family = MIXED) -> list[Result]:
    return _in_processes(partial(examine, classes=classes or family.classes, family=family), count, workers)


def _in_processes(function: Callable[[int], T], count: int, workers: int) -> list[T]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        return list(pool.map(function, range(count), chunksize=10))


def two_class_model(seed: int) -> tuple[uf.UFM, Decimal]:
    """The model of this number with two classes and a bias without decay, and its minimum.

    With c = tau sqrt(n_1 n_2 / (2 N)) the optimal probability of the wrong class is c N / n_k, if both are below 1/2.
    """
    generator = np.random.default_rng(seed)
    least = int(10 ** generator.uniform(0, 3))
    counts = [least, round(least * 10 ** generator.uniform(0, 12))]
    N = sum(counts)
    tau = 10 ** generator.uniform(-9, np.log10(0.49)) * least / N / np.sqrt(counts[0] * counts[1] / (2 * N))
    balance = 10 ** generator.uniform(-6, 6)
    d = int(generator.integers(1, 4))
    ufm = uf.UFM(2, d, generator.permutation(counts), lambda_W=tau * balance, lambda_H=tau / balance, threads=1)
    with localcontext() as context:
        context.prec = DIGITS
        n = [Decimal(count) for count in counts]
        c = (Decimal(ufm.lambda_W) * Decimal(ufm.lambda_H) * n[0] * n[1] / (2 * N)).sqrt()
        misses = [c * N / count for count in n]
        entropies = [-q * q.ln() - (1 - q) * (1 - q).ln() for q in misses]
        return ufm, (n[0] * entropies[0] + n[1] * entropies[1]) / N


BOUNDS_A_MODEL = 5


def two_class_excess(seed: int) -> float:
    """By how much the highest of five bounds exceeds the minimum, relative to it; negative if none does."""
    ufm, minimum = two_class_model(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)  # minima below about 1e-15 are not reached
        found, reduced = uf.minimize(ufm), uf.global_minimum(ufm)
    points = random_points(ufm, found.point, np.random.default_rng(seed))
    certificates = [found.certificate, reduced.certificate, *(uf.certify(ufm, p) for p in points)]
    return max(float(Decimal(certificate.lower_bound) / minimum - 1) for certificate in certificates)


def two_classes(bounds: int, workers: int) -> str:
    excess = np.array(_in_processes(two_class_excess, -(-bounds // BOUNDS_A_MODEL), workers))
    wrong = [f"model {seed}: {excess[seed]:.2e}" for seed in np.flatnonzero(excess > 0)]
    total, highest, median = BOUNDS_A_MODEL * len(excess), excess.max(), np.median(excess)
    heading = f"{total} bounds of {len(excess)} models with two classes: {len(wrong)} models with one above the minimum"
    spread = f"the highest bound of a model over the minimum, less 1: at most {highest:.2e}, median {median:.2e}"
    return "\n".join([heading, spread, *wrong])


POINTS_A_MODEL = 19  # whose bounds, with that of the minimum, are twenty


@dataclass(frozen=True)
class Bounds:
    seed: int
    kind: str
    excess: float  # of the highest bound over the lowest loss, relative; NaN after an error
    error: str = ""

    @property
    def valid(self) -> bool:
        return self.excess <= ROUNDING


def bounds_of(seed: int) -> Bounds:
    """Certify points of the small model of this number."""
    ufm, kind = certificate_models.model(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", uf.ConvergenceWarning)
            found = uf.minimize(ufm, tol=TIGHT)
        points = islice(certificate_models.points(ufm, found.point, np.random.default_rng(seed)), POINTS_A_MODEL)
        certificates = [found.certificate, *(uf.certify(ufm, p) for p in points)]
    except Exception as error:
        return Bounds(seed, kind, np.nan, f"{type(error).__name__}: {error}")
    lowest = min(certificate.loss for certificate in certificates)
    above = max(certificate.lower_bound for certificate in certificates) - lowest
    return Bounds(seed, kind, above / lowest if lowest else above)


def bounds_of_every_loss(count: int, workers: int) -> str:
    results = _in_processes(bounds_of, -(-count // (POINTS_A_MODEL + 1)), workers)
    rows = []
    for kind in [*certificate_models.LOSSES, "all"]:
        excess = np.array([result.excess for result in results if kind in (result.kind, "all")])
        if len(excess):
            bounds, wrong = str(len(excess) * (POINTS_A_MODEL + 1)), str(np.sum(~(excess <= ROUNDING)))
            rows.append([kind, str(len(excess)), bounds, wrong, f"{np.nanmax(excess):.1e}"])
    wrong = [f"model {result.seed}: {result.error or result.excess}" for result in results if not result.valid]
    header = ["loss", "models", "bounds", "wrong models", "highest bound over loss, less 1"]
    return "\n".join([table(header, rows), *wrong])


def summary(results: list[Result], family: Family = MIXED) -> str:
    """Table of the evaluations, one row a kind."""
    rows = []
    for name in [*family.kinds, "all"]:
        these = [result for result in results if name in (result.kind, "all")]
        if not these:
            continue
        solved = [result for result in these if not result.error]
        evaluations = np.array([result.evaluations for result in solved])
        products = np.array([result.products for result in solved])
        quantiles = [f"{np.quantile(evaluations, share, method='higher'):.0f}" for share in (0.5, 0.9, 0.99, 1)]
        cells = [*quantiles, f"{np.median(products):.0f}", f"{products.max():.0f}"]
        failed = sum(not result.certified for result in these)
        rows.append([name, str(len(these)), *cells, str(failed), str(sum(not result.valid for result in these))])
    header = [family.of, "models", "median", "90 %", "99 %", "most", "products: median", "most products"]
    return table([*header, "not certified", "bounds above a loss"], rows)


def failures(results: list[Result]) -> Iterator[str]:
    for result in results:
        if not (result.certified and result.valid):
            found = result.error or f"gap {result.gap:.1e}, bound's excess {result.excess:.1e}"
            yield f"model {result.seed}: {found}"


def longest(results: list[Result]) -> str:
    """The numbers of the models that took most evaluations."""
    most = sorted(results, key=lambda result: -result.evaluations)[:5]
    return "Most evaluations: " + ", ".join(f"{result.evaluations} (model {result.seed})" for result in most) + "."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--classes", type=int)
    parser.add_argument("--seed", type=int, help="only this model")
    parser.add_argument("--collapse", type=int, nargs="?", const=COLLAPSE_COUNT, metavar="COUNT")
    parser.add_argument("--two-classes", type=int, metavar="BOUNDS")
    parser.add_argument("--bounds", type=int)
    options = parser.parse_args()
    if options.two_classes is not None:
        print(two_classes(options.two_classes, uf.get_num_threads()))
        return
    if options.bounds is not None:
        print(bounds_of_every_loss(options.bounds, uf.get_num_threads()))
        return
    count, family = (options.count, MIXED) if options.collapse is None else (options.collapse, COLLAPSE)
    classes = options.classes or family.classes
    if options.seed is not None:
        print(family.model(options.seed, classes)[0], examine(options.seed, classes, family), sep="\n")
        return
    results = run(count, uf.get_num_threads(), classes, family)
    print(summary(results, family), longest(results), *failures(results), sep="\n\n")


if __name__ == "__main__":
    main()
