"""What is solved, and what has to come out of it: every work yields its claims and a table of all runs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np

import clock
import eigen_peers
import solver_peers
import stress
import ufm_fast as uf
from eigen_peers import Eigenvalues
from report import table
from solver_peers import Outcome
from sweep import Curves

WITHIN = 1e-6  # relative, of the loss and of eigenvalues
SHORT, LONG_FACTOR = 25.0, 55  # seconds for every peer; times our time for the two that came furthest
OURS = "ufm-fast"


@dataclass(frozen=True)
class Claim:
    work: str
    what: str
    target: str
    measured: str
    holds: bool | None  # None: a peer's limit came too early to say


@dataclass(frozen=True)
class Section:
    claims: list[Claim]
    parts: list[str]  # Markdown
    curves: Curves | None = None  # seconds over K, to be drawn


@dataclass(frozen=True)
class Scale:
    """Sizes and limits: of the record, or a small look."""

    quick: bool

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def limit(self, seconds: float) -> float:
        return seconds / 10 if self.quick else seconds


def geometric(K: int) -> uf.UFM:
    """Class counts geometric from 500 to 5, a long-tailed data set."""
    counts = np.round(np.geomspace(500, 5, K)).astype(np.int64)
    return uf.UFM(K, K, counts, lambda_W=2e-4, lambda_H=2e-4 / counts.mean(), lambda_b=1e-2)


def timed(function: Callable, repeats: int = 1) -> tuple[float, object]:
    """Median seconds, and the last answer."""
    seconds = []
    for _ in range(repeats):
        time.sleep(clock.REST)
        start = clock.now()
        answer = function()
        seconds.append(clock.now() - start)
    return median(seconds), answer


def peer(name: str, ufm: uf.UFM, x0: np.ndarray, target: float, limit: float, **options) -> Outcome:
    with clock.fitting_threads(ufm.K):
        return solver_peers.solve(name, ufm, x0, target, limit, **options)


def seconds_text(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def _ours(seconds: float, result) -> Outcome:
    certificate = result.certificate
    return Outcome(
        OURS, seconds, result.nfev, 0, result.products, certificate.loss, certificate.relative_gap, True, "certified"
    )


def outcomes(rows: list[tuple[str, Outcome]], ours: Outcome, least: float) -> str:
    """Every run as a table; one that did not come to the loss shows the time and work it had used, as > ..."""
    cells = []
    for start, outcome in rows:
        sign = "" if outcome.reached else "> "
        cells.append(
            [
                outcome.name,
                start,
                f"{sign}{seconds_text(outcome.seconds)}",
                f"{sign}{outcome.seconds / ours.seconds:.3g}",
                f"{outcome.evaluations} + {outcome.hessian_products}",
                f"{sign}{outcome.products:.0f}",
                f"{sign}{outcome.products / ours.products:.3g}",
                f"{outcome.loss / least - 1:.1e}",
                f"{outcome.gap:.1e}",
                outcome.message,
            ]
        )
    header = ["solver", "start", "time", "ratio", "evaluations + Hessian products", "matrix products", "ratio"]
    return table([*header, "loss above the optimum", "certified gap", "ended"], cells)


def best_of(outcomes: list[Outcome], quantity: Callable[[Outcome], float]) -> Outcome:
    """The least of those that came to the loss; if none did, the one that came furthest."""
    reached = [outcome for outcome in outcomes if outcome.reached]
    return min(reached, key=quantity) if reached else min(outcomes, key=lambda outcome: outcome.loss)


def claimed(work: str, what: str, factor: float, other: Outcome, ours: Outcome, quantity: Callable) -> Claim:
    """That another solver needs so many times our time or work."""
    ratio = quantity(other) / quantity(ours)
    measured = f"{'' if other.reached else 'more than '}{ratio:.3g}x ({other.name})"
    holds = True if ratio >= factor else False if other.reached else None
    return Claim(work, what, f">= {factor:g}x", measured, holds)


def _time(outcome: Outcome) -> float:
    return outcome.seconds


def _work(outcome: Outcome) -> float:
    return outcome.products


def solve(scale: Scale) -> Section:
    K = scale.size(1000, 100)
    ufm = geometric(K)
    title = f"solve, K = d = {K}"
    starts: list[uf.Point] = []

    def keep_start(intermediate_result) -> None:
        starts.append(intermediate_result.point)
        raise StopIteration

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)
        uf.minimize(ufm, callback=keep_start)
    seconds, result = timed(partial(uf.minimize, ufm, tol=1e-7), 3)
    ours = _ours(seconds, result)
    least = uf.minimize(ufm, tol=1e-9).fun
    target = least * (1 + WITHIN)

    usual = ufm.pack(ufm.random_point(seed=0))
    limit = scale.limit(SHORT)
    found = {name: peer(name, ufm, usual, target, limit) for name in solver_peers.SOLVERS}
    late = [name for name, outcome in found.items() if not outcome.reached]
    for name in sorted(late, key=lambda name: found[name].loss)[:2]:
        if LONG_FACTOR * seconds > limit:
            found[name] = peer(name, ufm, usual, target, LONG_FACTOR * seconds)
    best = best_of(list(found.values()), _time)
    scipy = best_of([outcome for outcome in found.values() if outcome.name.startswith("SciPy")], _time)
    from_ours = [
        peer(name, ufm, ufm.pack(starts[0]), target, limit / 2)
        for name in ("SciPy L-BFGS-B", "SciPy trust-krylov", "SciPy Newton-CG", "PyTorch LBFGS")
    ]
    rows = [("our own", ours)]
    rows += [("random", outcome) for outcome in found.values()] + [("our own", outcome) for outcome in from_ours]
    claims = [
        Claim(title, "certified relative gap", "<= 1e-7", f"{ours.gap:.1e}", ours.gap <= 1e-7),
        Claim(title, "evaluations", "<= 15", f"{ours.evaluations}", ours.evaluations <= 15),
        Claim(title, "matrix products", "<= 60", f"{ours.products:.0f}", ours.products <= 60),
        Claim(title, "time", "<= 3 s", seconds_text(seconds), seconds <= 3),
        claimed(title, "time of the best peer, random start / ours", 50, best, ours, _time),
        claimed(title, "time of the best of SciPy, random start / ours", 50, scipy, ours, _time),
    ]
    text = (
        f"Every peer has {limit:.0f} s; the two that came furthest without arriving then have {LONG_FACTOR} times our "
        f"time from the beginning. From our start each has {limit / 2:.0f} s. That start, the minimum for a few groups "
        f"of similar counts interpolated to all counts, is {ufm.loss(starts[0]) / least - 1:.1e} above the optimum "
        "here: with counts that follow a smooth law it does nearly all the work."
    )
    return Section(claims, [text, outcomes(rows, ours, least)])


def descend(scale: Scale) -> Section:
    K = scale.size(400, 60)
    ufm, rank = geometric(K), K // 2
    title = f"descend, K = d = {K}"
    limit = scale.limit(20)
    least = uf.minimize(ufm, tol=1e-9).fun
    target = least * (1 + WITHIN)
    claims, rows, parts = [], [], []

    def compare(start: str, p: uf.Point, x0: np.ndarray) -> Outcome:
        ours = _ours(*timed(partial(uf.minimize, ufm, p, tol=WITHIN)))
        found = [peer(name, ufm, x0, target, limit) for name in solver_peers.SOLVERS]
        rows.extend([(start, ours), *((start, outcome) for outcome in found)])
        best = best_of(found, _work)
        lbfgs = best_of([outcome for outcome in found if "LBFGS" in outcome.name or "L-BFGS" in outcome.name], _work)
        claims.append(
            Claim(title, f"{start}: certified relative gap", "<= 1e-6", f"{ours.gap:.1e}", ours.gap <= WITHIN)
        )
        for what, other, factor in (("best peer", best, 1), ("L-BFGS", lbfgs, 3)):
            claims.append(claimed(title, f"{start}: matrix products of {what} / ours", factor, other, ours, _work))
        return ours

    p = ufm.random_point(seed=0)
    ours = compare("random", p, ufm.pack(p))
    parts.append(outcomes(rows, ours, least))
    rows.clear()

    saddle = uf.saddle(ufm, rank)
    exact = ufm.pack(saddle)
    noise = np.random.default_rng(0).standard_normal(exact.size)
    pushed = exact + 1e-3 * np.linalg.norm(exact) / np.linalg.norm(noise) * noise
    start = f"rank-{rank} saddle"
    ours = compare(start, saddle, pushed)
    parts += [
        f"At the saddle of rank {rank} its gradient is {np.linalg.norm(ufm.fun_and_grad(exact)[1]):.1e}. Ours starts "
        "exactly there, the peers below after a random push of 1e-3 of its norm:",
        outcomes(rows, ours, least),
        "Started exactly at the saddle, with their own tolerances, SciPy's methods return:",
    ]
    returned = [peer(name, ufm, exact, target, limit, solver=solver) for name, solver in solver_peers.DEFAULTS.items()]
    cells = [
        [outcome.name, outcome.message, seconds_text(outcome.seconds), f"{outcome.loss / least - 1:.3f}",
         f"{outcome.gap:.1e}"]
        for outcome in returned
    ]  # fmt: skip
    parts.append(table(["solver", "returns", "time", "loss above the optimum, relative", "certified gap"], cells))
    fooled = sum(outcome.message.startswith("success=True") and not outcome.reached for outcome in returned)
    claims.append(
        Claim(title, f"exactly at the {start}: SciPy's methods returning success there", "shown",
              f"{fooled} of {len(returned)}", fooled > 0)
    )  # fmt: skip
    return Section(claims, parts)


def random_models(scale: Scale) -> Section:
    count = scale.size(stress.COUNT, 100)
    title = f"stress, {count} random models"
    results = stress.run(count, clock.processors())
    uncertified = sum(not result.certified for result in results)
    wrong = sum(not result.valid for result in results)
    claims = [
        Claim(title, "not certified to 1e-7", "0", f"{uncertified}", uncertified == 0),
        Claim(title, "bounds above a loss", "0", f"{wrong}", wrong == 0),
    ]
    text = "Evaluations of loss and gradient until certified; drawn and examined as `stress.py` says."
    return Section(claims, [text, stress.summary(results), *stress.failures(results)])


def symmetry(scale: Scale) -> Section:
    K = scale.size(1000, 100)
    title = f"10 distinct counts, K = d = {K}"
    values = np.round(np.geomspace(500, 5, 10)).astype(np.int64)
    counts = np.random.default_rng(0).choice(values, K)
    ufm = uf.UFM(K, K, counts, lambda_W=2e-4, lambda_H=2e-4 / counts.mean(), lambda_b=1e-2)

    def solve():
        solution = uf.global_minimum(ufm)
        return solution, solution.certificate

    uf.global_minimum(geometric(10))  # loads what is loaded once
    seconds, (solution, certificate) = timed(solve, 3)
    claims = [
        Claim(title, "method", "symmetry_reduction", solution.method, solution.method == "symmetry_reduction"),
        Claim(title, "time, certificate included", "<= 0.5 s", seconds_text(seconds), seconds <= 0.5),
        Claim(title, "certified relative gap", "<= 1e-8", f"{certificate.relative_gap:.1e}",
              certificate.relative_gap <= 1e-8),
    ]  # fmt: skip
    return Section(claims, [])


def _eigenvalues(found: list[Eigenvalues], ours: tuple[str, float, int], exact: np.ndarray) -> str:
    name, seconds, products = ours
    rows = [[name, seconds_text(seconds), "1", f"{products}", ""]]
    for result in found:
        sign = "" if result.values is not None else "> "
        cells = [f"{sign}{seconds_text(result.seconds)}", f"{sign}{result.seconds / seconds:.3g}"]
        outcome = result.message
        if result.values is not None:
            outcome = ", ".join(f"{value:.9g}" for value in result.values[-exact.size :])
            outcome += f" ({_error(result.values[-exact.size :], exact):.0e})"
        rows.append([result.name, *cells, f"{result.hessian_products}", outcome])
    return table(["solver", "time", "ratio", "Hessian products", "eigenvalues (relative error)"], rows)


def _error(values: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(values - exact).max() / np.abs(exact).max())


def _lowest(solver: str, source: str, ufm: uf.UFM, p: uf.Point, k: int, limit: float, **options) -> Eigenvalues:
    with clock.fitting_threads(ufm.K):
        return eigen_peers.lowest(solver, source, ufm, p, k, WITHIN, limit, **options)


def classify(scale: Scale) -> Section:
    K = scale.size(1000, 100)
    rank = K // 2
    counts = np.round(np.geomspace(500, 5, K)).astype(np.int64)
    models = {
        "cross-entropy, 100 samples a class": (
            uf.UFM(K, K, 100, lambda_W=2e-4, lambda_H=2e-6, lambda_b=1e-2), eigen_peers.available(), 25,
        ),
        "squared error, counts 500 to 5": (
            uf.UFM(K, K, counts, loss="mse", lambda_W=2e-4, lambda_H=2e-4 / counts.mean()), ["ARPACK"], 80,
        ),
    }  # fmt: skip
    claims, parts = [], []
    for name, (ufm, solvers, limit) in models.items():
        title = f"classify a rank-{rank} saddle, K = d = {K}, {name}"
        p = uf.saddle(ufm, rank)
        seconds, point = timed(partial(uf.classify, ufm, p), 3)
        exact = np.array([point.lowest_eigenvalue])
        found = [
            _lowest(solver, source, ufm, p, 1, scale.limit(limit))
            for solver in solvers
            for source in (eigen_peers.TORCH, eigen_peers.OURS)
        ]
        arpack = found[0]
        ratio = arpack.seconds / seconds
        agreement = [
            _error(result.values, exact) for result in found if result.solver == "ARPACK" and result.values is not None
        ]
        claims += [
            Claim(title, "kind", "strict_saddle", point.kind, point.kind == "strict_saddle"),
            Claim(
                title, "largest difference to ARPACK's eigenvalue", "<= 1e-6",
                f"{max(agreement):.0e}" if agreement else f"ARPACK has none after {seconds_text(arpack.seconds)}",
                max(agreement) <= WITHIN if agreement else None,
            ),
            Claim(
                title, "time of ARPACK on PyTorch products / ours", ">= 100x",
                f"{'more than ' if arpack.values is None else ''}{ratio:.3g}x",
                True if ratio >= 100 else None if arpack.values is None else False,
            ),
        ]  # fmt: skip
        ours = (f"ufm-fast `classify`: {exact[0]:.9g}", seconds, 1)
        parts += [f"{name[0].upper()}{name[1:]}; peers to a relative 1e-6:", _eigenvalues(found, ours, exact)]
    return Section(claims, parts)


def minimum_eigenpairs(scale: Scale) -> Section:
    K, k = scale.size(50, 10), 3
    title = f"lowest {k} non-null eigenpairs at a balanced minimum, K = d = {K}"
    ufm = uf.UFM(K, K, lambda_W=1e-3, lambda_H=1e-3, lambda_b=1e-2)
    p = uf.global_minimum(ufm).point
    values, multiplicities = uf.closed_form_spectrum(ufm)
    null = int(multiplicities[values == 0].sum())
    exact = np.repeat(values, multiplicities)[null : null + k]
    seconds, pairs = timed(partial(uf.lowest_eigenpairs, ufm, p, k=k), 3)
    error = _error(pairs.eigenvalues, exact)
    limit = scale.limit(15)
    sources = eigen_peers.TORCH, eigen_peers.OURS
    found = [_lowest(solver, source, ufm, p, k, limit) for solver in eigen_peers.available() for source in sources]
    wide = [_lowest("ARPACK", source, ufm, p, null + k, limit) for source in sources]
    claims = [Claim(title, "largest relative error to the closed form", "<= 1e-8", f"{error:.0e}", error <= 1e-8)]
    parts = [
        f"The null space has dimension {null}. The closed form gives {', '.join(f'{value:.12g}' for value in exact)}. "
        f"Asked for {k} pairs, peers look into the null space:",
        _eigenvalues(found, (f"ufm-fast `lowest_eigenpairs(k={k})`", seconds, pairs.products), exact),
        f"Asked for {null + k} pairs, the last {k} of which are shown:",
        _eigenvalues(wide, (f"ufm-fast `lowest_eigenpairs(k={k})`", seconds, pairs.products), exact),
    ]
    return Section(claims, parts)


WORKS: dict[str, Callable[[Scale], Section]] = {
    "solve": solve,
    "descend": descend,
    "stress": random_models,
    "symmetry": symmetry,
    "classify": classify,
    "eigenpairs": minimum_eigenpairs,
}
