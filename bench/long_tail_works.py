"""Works on models of which classes are given up: ours to a certified value, and peers to a loss, in fresh processes."""

from __future__ import annotations

from functools import partial

import numpy as np

import clock
import convex_peers
import solver_peers
import stress
import ufm_fast as uf
from long_tails import LIMIT, TOLERANCE, Case, Solved, geometric, levels, log_normal, measure, zipf
from process import Failure, Worker
from report import table
from solver_peers import Outcome
from solver_works import LONG_FACTOR, SHORT, WITHIN, Claim, Scale, Section, best_of, claimed, seconds_text
from sweep import Curves

OURS = "ufm-fast"
DESCENTS = "SciPy L-BFGS-B", "PyTorch LBFGS", "PyTorch Adam"
PEER_CLASSES = 2000  # at most, in the figure
SIZES = 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000
STRENGTH = 0.5  # lambda_W K in the figure: n* is the same for all K
FIGURE_LIMIT = 300.0  # seconds for ours; a peer has SHORT

Targets = dict[str, float]  # by quantity: seconds, evaluations, memory (MiB)
Rows = dict[Case, Solved | Failure]

UNITS = {"seconds": seconds_text, "evaluations": str, "memory": lambda value: f"{value:.0f} MiB"}
ASKED = {
    "seconds": "seconds from the model to the certified value",
    "evaluations": "evaluations",
    "memory": "most memory of the process",
}


def claims_of(case: Case, solved: Solved | Failure, targets: Targets) -> list[Claim]:
    """That the value is certified, and that each quantity is at most its target."""
    if isinstance(solved, Failure):
        return [Claim(case.title, "certified relative gap", f"<= {TOLERANCE:g}", str(solved), False)]
    claims = [Claim(case.title, "certified relative gap", f"<= {TOLERANCE:g}", f"{solved.gap:.1e}", solved.certified)]
    for quantity, target in targets.items():
        value, text = getattr(solved, quantity), UNITS[quantity]
        claims.append(Claim(case.title, ASKED[quantity], f"<= {text(target)}", text(value), value <= target))
    return claims


def rows_of(rows: Rows) -> str:
    cells = []
    for case, solved in rows.items():
        if isinstance(solved, Failure):
            cells.append([case.title, *[""] * 7, str(solved)])
            continue
        cells.append([
            case.title, f"{solved.lambda_W:.3g}", f"{solved.distinct}", f"{solved.kept}", seconds_text(solved.seconds),
            f"{solved.evaluations}", f"{solved.gap:.1e}", UNITS["memory"](solved.memory), solved.method,
        ])  # fmt: skip
    header = ["model", "lambda_W", "distinct counts", "classes kept", "time", "evaluations", "certified gap"]
    return table([*header, "memory", "method"], cells)


def solved_cases(scale: Scale, cases: dict[Case, Targets]) -> tuple[list[Claim], Rows]:
    rows = {case: measure(case, scale.limit(LIMIT)) for case in cases}
    return [claim for case, targets in cases.items() for claim in claims_of(case, rows[case], targets)], rows


def run_peer(case: Case, name: str, target: float, limit: float, cpu_time: bool) -> Outcome:
    """Run a peer on a case in this process."""
    if cpu_time:
        clock.use_cpu_time()
    solver_peers.warm_up()
    ufm = case.model(case.counts())
    with clock.fitting_threads(case.K):
        if name in DESCENTS:
            return solver_peers.solve(name, ufm, ufm.pack(ufm.random_point(seed=0)), target, limit)
        start = clock.now()
        point, evaluations, message = convex_peers.PEERS[name](ufm, target, limit)
        seconds = clock.now() - start
    certificate = uf.certify(ufm, point)
    reached = certificate.loss <= target and seconds <= limit
    message = message or ("arrived" if reached else "time limit")
    gap = float(certificate.relative_gap)
    return Outcome(name, seconds, evaluations, 0, 0, certificate.loss, gap, reached, message)


def peer(case: Case, name: str, target: float, limit: float) -> Outcome:
    """Run a peer in a fresh process; one that fails has not arrived."""
    cpu_time = clock.is_cpu_time()
    try:
        with Worker(1 if cpu_time else clock.processors()) as worker:
            return worker.ask(run_peer, case, name, target, limit, cpu_time, limit=4 * limit + 120)
    except Failure as failure:
        return Outcome(name, limit, 0, 0, 0, np.inf, np.inf, False, str(failure))


def contest(scale: Scale, case: Case, solved: Solved) -> tuple[list[Claim], list[str]]:
    """All peers on a case that ours has solved; the two that came furthest too late have more time."""
    target, limit, longer = solved.value * (1 + WITHIN), scale.limit(SHORT), LONG_FACTOR * solved.seconds
    found = {name: peer(case, name, target, limit) for name in [*DESCENTS, *convex_peers.available(case.K)]}
    late = [name for name, outcome in found.items() if not outcome.reached]
    for name in sorted(late, key=lambda name: found[name].loss)[:2]:
        if longer > limit:
            found[name] = peer(case, name, target, longer)
    ours = Outcome(OURS, solved.seconds, solved.evaluations, 0, 0, solved.value, solved.gap, True, "certified")
    on_the_model = [found[name] for name in DESCENTS]
    claims = [
        claimed(case.title, f"time of the best {which} / ours", 50, best_of(outcomes, _time), ours, _time)
        for which, outcomes in (("peer on W, H, b", on_the_model), ("peer", list(found.values())))
    ]
    text = (
        f"{case.title}, to a loss within 1e-6; every peer has {limit:.0f} s, the two that came furthest {longer:.0f} s:"
    )
    return claims, [text, _peers(list(found.values()), ours)]


def _time(outcome: Outcome) -> float:
    return outcome.seconds


def _peers(found: list[Outcome], ours: Outcome) -> str:
    cells = []
    for outcome in [ours, *found]:
        sign = "" if outcome.reached else "> "
        cells.append([
            outcome.name, f"{sign}{seconds_text(outcome.seconds)}", f"{sign}{outcome.seconds / ours.seconds:.3g}",
            f"{outcome.evaluations or ''}", f"{outcome.loss / ours.loss - 1:.1e}", f"{outcome.gap:.1e}",
            outcome.message,
        ])  # fmt: skip
    header = ["solver", "time", "ratio", "evaluations or iterations", "loss above ours", "certified gap", "ended"]
    return table(header, cells)


def growth(scale: Scale) -> tuple[Curves, list[str]]:
    """Seconds over K, ours and each peer's, up to the size where it stops; and why it stops."""
    curves: Curves = {OURS: {}}
    stopped: dict[str, str] = {}
    for K in [K for K in SIZES if scale.size(SIZES[-1], 200) >= K]:
        case = figure_case(K)
        solved = measure(case, scale.limit(FIGURE_LIMIT))
        if isinstance(solved, Failure) or not solved.certified:
            why = str(solved) if isinstance(solved, Failure) else f"gap {solved.gap:.1e}"
            return curves, [*stopped.values(), f"{OURS} stops at K = {K}: {why}"]
        curves[OURS][K] = solved.seconds
        for name in [*DESCENTS, *convex_peers.available(K)]:
            if name not in stopped and scale.size(PEER_CLASSES, 50) >= K:
                outcome = peer(case, name, solved.value * (1 + WITHIN), scale.limit(SHORT))
                if outcome.reached:
                    curves.setdefault(name, {})[K] = outcome.seconds
                else:
                    above = f"{outcome.loss / solved.value - 1:.1e} above after {seconds_text(outcome.seconds)}"
                    stopped[name] = f"{name} stops at K = {K}: {outcome.message}, {above}"
    return curves, list(stopped.values())


def figure_case(K: int) -> Case:
    return Case("counts 5000 to 5", K, geometric, (5000, 5), STRENGTH)


def collapse(scale: Scale) -> Section:
    size = scale.size
    first = figure_case(size(1000, 100))
    long = "counts 1000 to 5"
    cases: dict[Case, Targets] = {
        first: {"seconds": 2, "evaluations": 5},
        Case("counts 5000 to 5", size(2000, 200), geometric, (5000, 5), 2.0): {"seconds": 4},
        Case(long, size(10_000, 1000), geometric, (1000, 5), 10.0): {"seconds": 2},
        Case(f"{long}, 40 % kept", size(10_000, 1000), geometric, (1000, 5)): {"seconds": 2},
    }
    claims, rows = solved_cases(scale, cases)
    parts = [rows_of(rows)]
    solved = rows[first]
    if isinstance(solved, Solved) and solved.certified:
        more, tables = contest(scale, first, solved)
        claims, parts = claims + more, parts + tables
    curves, stopped = growth(scale)
    names = [*curves]
    times = [
        [f"{K}", *(seconds_text(curves[name][K]) if K in curves[name] else "" for name in names)] for K in curves[OURS]
    ]
    absent = [f"{name} left out: not installed." for name in convex_peers.missing()]
    parts += ["Time over K, counts geometric from 5000 to 5, lambda_W = 0.5 / K:", table(["K", *names], times)]
    parts += ["![Time over K](solvers.svg)", *stopped, *absent]
    return Section(claims, parts, curves)


def zipf_counts(scale: Scale) -> Section:
    name = "Zipf counts"
    small = Case(name, scale.size(1000, 100), zipf)
    claims, rows = solved_cases(scale, {small: {}, Case(name, scale.size(10_000, 1000), zipf): {}})
    parts, solved = [rows_of(rows)], rows[small]
    if isinstance(solved, Solved) and solved.certified:
        more, tables = contest(scale, small, solved)
        claims, parts = claims + more, parts + tables
    return Section(claims, parts)


def rows_alone(name: str, full: int, quick: int, law, targets: Targets, scale: Scale) -> Section:
    """One model, too large for any peer."""
    case = Case(name, scale.size(full, quick), law)
    claims, rows = solved_cases(scale, {case: targets})
    point = 2 * 8 * case.K**2 / 2**30
    return Section(claims, [f"A single point W, H with d = K takes {point:.3g} GiB: no peer runs.", rows_of(rows)])


def million(scale: Scale) -> Section:
    K = scale.size(1_000_000, 100_000)
    cases = {
        Case(f"{distinct} distinct counts", K, levels, (distinct,)): {"seconds": seconds}
        for distinct, seconds in ((10, 1.0), (1000, 5.0))
    }
    claims, rows = solved_cases(scale, cases)
    return Section(claims, [rows_of(rows)])


def random_models(scale: Scale) -> Section:
    count = scale.size(stress.COLLAPSE_COUNT, 20)
    title = f"{count} random models, n* inside the counts"
    results = stress.run(count, clock.processors(), family=stress.COLLAPSE)
    evaluations = [result.evaluations for result in results]
    quantities = [
        ("not certified to 1e-8", sum(not result.certified for result in results), 0),
        ("bounds above a loss", sum(not result.valid for result in results), 0),
        ("evaluations, median", float(np.median(evaluations)), 2),
        ("evaluations, most", max(evaluations), 10),
    ]
    claims = [
        Claim(title, what, f"<= {target}" if target else "0", f"{value:g}", value <= target)
        for what, value, target in quantities
    ]
    text = "All bias modes, label smoothing, class weights and shifts; drawn as `collapse_models.py` says."
    parts = [text, stress.summary(results, stress.COLLAPSE), stress.longest(results), *stress.failures(results)]
    return Section(claims, parts)


WORKS = {
    "collapse": collapse,
    "zipf": zipf_counts,
    "imagenet21k": partial(rows_alone, "log-normal counts", 21_841, 2184, log_normal, {"seconds": 60}),
    "vocabulary": partial(rows_alone, "Zipf counts", 50_257, 5026, zipf, {"seconds": 20, "memory": 3072}),
    "million": million,
    "collapse-stress": random_models,
}
