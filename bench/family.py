"""The family of losses: random members to a certified gap of 1e-8, next-token targets, and sparse targets in memory.

    python bench/family.py                  200 models a member, each from three starts; every failure is listed
    python bench/family.py --count 20       the first 20 a member
    python bench/family.py --only bce       one member (entropy, weights, affine, bce, mse, ordinal)
    python bench/family.py --tokens 2000 5000 256 [--tau 3e-3]   soft next-token targets with Zipf weights: K, M and d
    python bench/family.py --sparse 50000   K and M of sparse targets, d = 64: time and memory of loss and gradient

Bounds are held against the lowest loss found, by SciPy's L-BFGS-B from the best end too.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from scipy.optimize import minimize

import ufm_fast as uf
from report import table

TOLERANCE, EVALUATIONS = 1e-8, 3000
BIASES: list[dict[str, Any]] = [{"bias": False}, {"lambda_b": 0.0}, {"lambda_b": 0.01}]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _distributions(rng: np.random.Generator, M: int, K: int) -> np.ndarray:
    return rng.dirichlet(np.full(K, 0.3), M)


def _affine(rng: np.random.Generator, K: int) -> uf.CrossEntropy:
    parts = {
        "scale": np.exp(rng.uniform(-1, 1, K)),
        "shift": 2 * rng.standard_normal(K),
        "margin": rng.uniform(0, 2, K),
    }
    chosen = [name for name in parts if rng.random() < 0.6] or ["scale"]
    return uf.CrossEntropy(rng.choice([0, 0.1]), **{name: parts[name] for name in chosen})


def _ordinal(rng: np.random.Generator, K: int) -> uf.Ordinal:
    inner = np.sort(rng.uniform(-4, 4, K - 1)) + 0.05 * np.arange(K - 1)
    return uf.Ordinal(None if rng.random() < 0.5 else inner, link=str(rng.choice(["logit", "probit"])))


#: Of each member: its loss, and its soft targets, if it has any.
MEMBERS: dict[str, tuple[Callable[..., Any], Callable[..., np.ndarray] | None]] = {
    "entropy": (lambda rng, K: uf.CrossEntropy(rng.choice([0, 0.1])), _distributions),
    "weights": (lambda rng, K: uf.CrossEntropy(), None),
    "affine": (_affine, None),
    "bce": (lambda rng, K: uf.BinaryCrossEntropy(rng.choice([0, 0.1])), lambda rng, M, K: rng.random((M, K)) < 0.2),
    "mse": (lambda rng, K: uf.MSE(), lambda rng, M, K: rng.standard_normal((M, K))),
    "ordinal": (_ordinal, None),
}


def model(member: str, seed: int) -> uf.UFM:
    """The model of this number: classes with weights, rows of labels or, where there are any, of soft targets."""
    rng = np.random.default_rng(seed)
    K = int(rng.integers(3, 41))
    loss_of, soft = MEMBERS[member]
    loss, bias = loss_of(rng, K), BIASES[seed % 3]
    if isinstance(loss, uf.Ordinal) and loss.thresholds is None:
        bias = {"lambda_b": bias.get("lambda_b", 0.01)}
    lambda_W = 10 ** rng.uniform(-5, -1)
    options = {"loss": loss, "lambda_W": lambda_W, "threads": 1, **bias}
    if member in ("weights", "ordinal") or seed % 2:
        n = rng.integers(1, 200, K)
        weights = np.exp(rng.uniform(-2, 2, K))
        return uf.UFM(K, K, n, weights=weights, lambda_H=lambda_W / n.mean() * 10 ** rng.uniform(-1, 1), **options)
    M = int(rng.integers(2, 60))
    targets = rng.integers(0, K, M) if soft is None or seed % 4 == 0 else soft(rng, M, K)
    n, weights, ridges = np.exp(rng.uniform(-2, 2, M)), np.exp(rng.uniform(-1, 1, M)), np.exp(rng.uniform(-1, 1, M))
    lambda_H = lambda_W * 10 ** rng.uniform(-2, 2)
    return uf.UFM(K, K, targets=targets, n=n, weights=weights, ridges=ridges, lambda_H=lambda_H, **options)


def examine(member: str, seed: int) -> tuple[list[int], list[float], float]:
    """Evaluations and gaps from three starts, and by how much the highest bound exceeds the lowest loss, relative."""
    ufm = model(member, seed)
    random = ufm.random_point(seed)
    zero = uf.Point(0 * random.W, 0 * random.H, random.b)
    runs = [uf.minimize(ufm, start, max_evaluations=EVALUATIONS) for start in (None, zero, random)]
    best = min(runs, key=lambda run: run.fun)
    limits = {"maxiter": 300, "ftol": 1e-16, "gtol": 1e-14}
    peer = minimize(ufm.fun_and_grad, best.x, jac=True, method="L-BFGS-B", options=limits)
    lowest = min(best.fun, peer.fun)
    bounds = [run.certificate.lower_bound for run in runs]
    bounds += [uf.certify(ufm, ufm.random_point(i, 10.0 ** (i - 2))).lower_bound for i in range(3)]
    return [run.nfev for run in runs], [run.certificate.relative_gap for run in runs], max(bounds) / lowest - 1


def members(names: list[str], count: int) -> str:
    rows, failures = [], []
    for name in names:
        found = [examine(name, seed) for seed in range(count)]
        evaluations = np.array([each for each, _, _ in found])
        failed = [seed for seed, (_, gaps, _) in enumerate(found) if max(gaps) > TOLERANCE]
        excess = max(each for _, _, each in found)
        failures += [f"{name} {seed}: gaps {', '.join(f'{gap:.1e}' for gap in found[seed][1])}" for seed in failed]
        median = [f"{each:.0f}" for each in np.median(evaluations, axis=0)]
        rows.append([name, str(count), *median, f"{evaluations.max()}", str(len(failed)), f"{excess:.1e}"])
    starts = ["evaluations: own start", "zero", "random", "most"]
    return "\n".join(
        [table(["member", "models", *starts, "not certified", "highest bound over loss"], rows), *failures]
    )


def tokens(K: int, M: int, d: int, tau: float) -> str:
    """Contexts with about 20 next tokens each, the tokens' and the contexts' frequencies by Zipf's law."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, K + 1)
    chosen = [np.unique(rng.choice(K, 20, p=popularity / popularity.sum())) for _ in range(M)]
    starts = np.cumsum([0, *map(len, chosen)])
    entries = np.concatenate([rng.dirichlet(np.full(len(each), 0.5)) for each in chosen])
    targets = scipy.sparse.csr_array((entries, np.concatenate(chosen), starts), shape=(M, K))
    ufm = uf.UFM(K, d, targets=targets, n=1 / np.arange(1, M + 1), ridges=1, lambda_W=tau, lambda_H=tau)
    begun = time.perf_counter()
    found = uf.minimize(ufm)
    seconds, rank = time.perf_counter() - begun, np.linalg.matrix_rank(found.point.W, tol=1e-6)
    return f"{found.message}; {found.nfev} evaluations, {seconds:.1f} s, rank {rank}, {peak_mb():.0f} MB at most"


def sparse(size: int, d: int = 64) -> str:
    rng = np.random.default_rng(0)
    targets = scipy.sparse.csr_array(
        (rng.dirichlet(np.ones(20), size).ravel(), rng.integers(0, size, 20 * size), np.arange(0, 20 * size + 1, 20)),
        shape=(size, size),
    )
    begun = time.perf_counter()
    ufm = uf.UFM(size, d, targets=targets, lambda_W=1e-3, lambda_H=1e-3)
    made, p = time.perf_counter() - begun, ufm.random_point(0, 0.1)
    before = peak_mb()
    begun = time.perf_counter()
    ufm.loss_and_grad(p)
    seconds = time.perf_counter() - begun
    return (
        f"made in {made:.1f} s; loss and gradient {seconds:.1f} s, {peak_mb() - before:.0f} MB beside {before:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=list(MEMBERS), default=list(MEMBERS))
    parser.add_argument("--tokens", type=int, nargs=3, metavar=("K", "M", "D"))
    parser.add_argument("--tau", type=float, default=3e-3)
    parser.add_argument("--sparse", type=int, metavar="SIZE")
    options = parser.parse_args()
    warnings.simplefilter("ignore", uf.ConvergenceWarning)
    if options.tokens:
        print(tokens(*options.tokens, options.tau))
    elif options.sparse:
        print(sparse(options.sparse))
    else:
        print(members(options.only, options.count))


if __name__ == "__main__":
    main()
