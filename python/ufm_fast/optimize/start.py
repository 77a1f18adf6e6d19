"""Where the solver starts when the user gives no point: zero if that is optimal, else closed-form class-aligned factors."""

from __future__ import annotations

import numpy as np

from .._classes import ClassProblem
from .objective import Array


def zero_is_optimal(q: ClassProblem, G: Array) -> bool:
    """Whether |G|_2 <= tau, given the gradient matrix at Z = 0 and the best bias. Power iteration settles the usual no."""
    v = np.random.default_rng(0).standard_normal(q.K)
    for _ in range(20):
        v = G.T @ (G @ v)
        v /= np.linalg.norm(v) + 1e-300
    return bool(np.linalg.norm(G @ v) <= q.tau and np.linalg.norm(G, 2) <= q.tau)


def closed_form_factors(q: ClassProblem) -> tuple[Array, Array]:
    """Square factors in the class-aligned gauge; the exact optimum of cross-entropy if all counts are equal."""
    K = q.K
    miss = q.tau * q.N * (1 - 1 / K) / q.root + q.loss.label_smoothing * (1 - 1 / K)
    miss = np.clip(miss, 1e-12, (1 - 1 / K) * (1 - 1e-3))
    a = np.sqrt(np.log((1 - miss) * (K - 1) / miss) * q.root)
    A = np.diag(a) - a / K
    u = 1 / a / np.linalg.norm(1 / a)
    B = np.diag(a) - np.outer(a * u, u)
    if q.bias and q.lambda_b == 0:
        s = q.root / np.sqrt(q.N)
        B -= np.outer(s, s @ B)
    return A, B


def balanced_factors(Z: Array) -> tuple[Array, Array]:
    """The factors of Z with the least penalty, turned into the class-aligned gauge (as near symmetric as may be)."""
    U, s, Vt = np.linalg.svd(Z)
    left, _, right = np.linalg.svd(U.T + Vt)
    turn = np.sqrt(s)[:, None] * (left @ right)
    return Vt.T @ turn, U @ turn
