"""Peers on the equivalent convex problem: scores with the nuclear norm in place of W and H.

In canonical coordinates row k of the scores is Z_k = sqrt(n_k) W h_k, and the minimum of the model is that of

    sum_k (n_k / N) cross_entropy(Z_k / sqrt(n_k) + b, k) + tau |Z|_* + lambda_b / 2 |b|^2,

attained by the balanced factors of Z. Each peer works on a model with class counts, cross-entropy and a bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

import clock
import ufm_fast as uf

Array = NDArray[np.float64]

GROWTH = 2.0  # of the curvature where a step is refused
FIRST_SHARE = 1 / 64  # of the proven curvature: where the search for it begins


class Scores:
    """The smooth part of the problem in Z and beta = sqrt(N) b, of like curvature in both."""

    def __init__(self, ufm: uf.UFM):
        self.ufm, self.root = ufm, np.sqrt(ufm.counts)[:, None]
        self.weights = ufm.counts[:, None] / ufm.N
        self.curvature = (1 + ufm.lambda_b) / ufm.N  # proven: cross-entropy has at most 1/2, in Z and beta together 1

    def value(self, Z: Array, beta: Array) -> float:
        return self._data(log_softmax(self._logits(Z, beta), axis=1)) + self._decay(beta)

    def value_and_gradient(self, Z: Array, beta: Array) -> tuple[float, Array, Array]:
        log_p = log_softmax(self._logits(Z, beta), axis=1)
        residual = np.exp(log_p)
        residual[np.diag_indices_from(residual)] -= 1
        residual *= self.weights
        for_beta = residual.sum(0) / math.sqrt(self.ufm.N) + self.ufm.lambda_b / self.ufm.N * beta
        return self._data(log_p) + self._decay(beta), residual / self.root, for_beta

    def point(self, Z: Array, beta: Array) -> uf.Point:
        """W, H and b with these scores, balanced."""
        U, s, Vt = np.linalg.svd(Z)
        root, rho = np.sqrt(s), self.ufm.rho
        return uf.Point(
            np.ascontiguousarray(Vt.T) * root * rho, (U * root) / (rho * self.root), beta / math.sqrt(self.ufm.N)
        )

    def _logits(self, Z: Array, beta: Array) -> Array:
        return Z / self.root + beta / math.sqrt(self.ufm.N)

    def _data(self, log_p: Array) -> float:
        return -float(self.weights[:, 0] @ log_p.diagonal())

    def _decay(self, beta: Array) -> float:
        return self.ufm.lambda_b / (2 * self.ufm.N) * float(beta @ beta)


Iterate = tuple[float, int, Array, Array]  # loss, evaluations, Z, beta


def proximal_gradient(ufm: uf.UFM) -> Iterator[Iterate]:
    """Accelerated proximal gradient descent (FISTA, Beck & Teboulle 2009) from zero, with its curvature searched for.

    The method of nuclear penalized multinomial regression (npmr; Powers, Hastie & Tibshirani 2018), with two
    improvements: classes instead of samples, and a new beginning of the momentum where it points uphill.
    """
    problem = Scores(ufm)
    Z, beta = np.zeros((ufm.K, ufm.K)), np.zeros(ufm.K)
    ahead_Z, ahead_beta = Z, beta
    curvature, momentum, evaluations = FIRST_SHARE * problem.curvature, 1.0, 0
    while True:
        value, for_Z, for_beta = problem.value_and_gradient(ahead_Z, ahead_beta)
        evaluations += 1
        while True:
            next_Z, norm = _shrunk(ahead_Z - for_Z / curvature, ufm.tau / curvature)
            next_beta = ahead_beta - for_beta / curvature
            step_Z, step_beta = next_Z - ahead_Z, next_beta - ahead_beta
            smooth = problem.value(next_Z, next_beta)
            evaluations += 1
            model = value + np.vdot(for_Z, step_Z) + for_beta @ step_beta
            model += curvature / 2 * (np.vdot(step_Z, step_Z) + step_beta @ step_beta)
            if smooth <= model + 1e-14 * value or curvature >= problem.curvature:
                break
            curvature = min(GROWTH * curvature, problem.curvature)
        yield smooth + ufm.tau * norm, evaluations, next_Z, next_beta
        uphill = np.vdot(step_Z, next_Z - Z) + step_beta @ (next_beta - beta) < 0
        momentum, before = (1.0, 1.0) if uphill else ((1 + math.sqrt(1 + 4 * momentum**2)) / 2, momentum)
        ahead_Z = next_Z + (before - 1) / momentum * (next_Z - Z)
        ahead_beta = next_beta + (before - 1) / momentum * (next_beta - beta)
        Z, beta = next_Z, next_beta


def _shrunk(Z: Array, by: float) -> tuple[Array, float]:
    """Soft-threshold the singular values; also return their sum."""
    U, s, Vt = np.linalg.svd(Z)
    s = np.maximum(s - by, 0)
    return (U * s) @ Vt, float(s.sum())


Answer = tuple[uf.Point, int, str]  # with the number of evaluations or iterations, and what the solver says


def descend(ufm: uf.UFM, target: float, limit: float) -> Answer:
    """Run the proximal gradient method to a loss or a limit in seconds."""
    start = clock.now()
    for loss, evaluations, Z, beta in proximal_gradient(ufm):
        if loss <= target or clock.now() - start > limit:
            return Scores(ufm).point(Z, beta), evaluations, ""
    raise AssertionError("a solver without end ended")


def conic(solver: str, options: Callable[[float], dict], ufm: uf.UFM, target: float, limit: float) -> Answer:
    """State the problem in CVXPY, in the scores of an average class, and give it to a solver with its own tolerance."""
    import cvxpy

    scale = math.sqrt(ufm.counts.mean())
    scores, b = cvxpy.Variable((ufm.K, ufm.K)), cvxpy.Variable(ufm.K)
    to_logits = (scale / np.sqrt(ufm.counts))[:, None] * np.ones((1, ufm.K))
    logits = cvxpy.multiply(to_logits, scores) + np.ones((ufm.K, 1)) @ cvxpy.reshape(b, (1, ufm.K), order="C")
    data = (ufm.counts / ufm.N) @ (cvxpy.log_sum_exp(logits, axis=1) - cvxpy.diag(logits))
    penalty = ufm.tau * scale * cvxpy.normNuc(scores) + ufm.lambda_b / 2 * cvxpy.sum_squares(b)
    problem = cvxpy.Problem(cvxpy.Minimize(data + penalty))
    problem.solve(solver=solver, **options(limit))
    if scores.value is None:
        raise ArithmeticError(f"{solver} returned no point: {problem.status}")
    point = Scores(ufm).point(scale * scores.value, b.value * math.sqrt(ufm.N))
    return point, int(problem.solver_stats.num_iters), problem.status


CONIC: dict[str, Callable[[float], dict]] = {  # options for a limit in seconds
    "SCS": lambda limit: {"time_limit_secs": limit, "eps_abs": 1e-8, "eps_rel": 1e-8, "max_iters": 10**7},
    "Clarabel": lambda limit: {"time_limit": limit},
}
CONIC_CLASSES = 50  # at most: K^2 exponential cones beside a semidefinite matrix of 2 K rows
PROXIMAL = "proximal gradient"
PEERS: dict[str, Callable[[uf.UFM, float, float], Answer]] = {
    PROXIMAL: descend,
    **{f"CVXPY + {name}": partial(conic, name.upper(), options) for name, options in CONIC.items()},
}


def available(K: int) -> list[str]:
    """Those that are installed, for models of so many classes."""
    installed = [name for name in CONIC if find_spec("cvxpy") and find_spec(name.lower())]
    return [PROXIMAL, *(f"CVXPY + {name}" for name in installed if K <= CONIC_CLASSES)]


def missing() -> list[str]:
    return [name for name in PEERS if name not in available(0)]
