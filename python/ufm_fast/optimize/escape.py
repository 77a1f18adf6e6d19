"""The analytic escape from a saddle: all descent pairs at once, with an exact one-dimensional convex step.

Let a be a common null vector of A and B and (u, v) singular vectors of the gradient matrix G with singular value sigma.
Moving B by -sqrt(r) u a^T and A by +sqrt(r) v a^T changes Z = B A^T by exactly -r u v^T and the penalty by exactly
tau r, so the loss along r is convex with slope tau - sigma at 0. Orthonormal null vectors serve several pairs at once.

How much of each? Squared error curves equally in all directions, so in proportion to the excess sigma - tau.
Cross-entropy saturates, so that the logits Z_k / sqrt(n_k) change by the same size with each pair. The excess can be
1000 times smaller for classes that the saddle already tells apart, but in the wrong geometry (as opposite vectors,
say), and a pair left with little is where the descent then stays.
"""

from __future__ import annotations

import numpy as np

from .._classes import ClassProblem
from .objective import Array, Objective, State

_ROUNDING = 1e-6  # of the largest excess: at a saddle of rank r, r singular values of G are tau
_EMPTY = 1e-4  # of what an escape puts into a direction


def null_basis(A: Array, B: Array, content: float) -> Array:
    """Orthonormal columns a, least content first, with |A a|^2 + |B a|^2 at most `content`."""
    squares, vectors = np.linalg.eigh(A.T @ A + B.T @ B)
    return vectors[:, squares <= content]


def curvature_along(q: ClassProblem, G: Array, dZ: Array) -> float:
    """Second derivative of the data term at the gradient matrix G along dZ."""
    if q.loss.name == "mse":
        return float(np.vdot(dZ, dZ)) / q.N
    P = q.probabilities(G)
    return float(((P * dZ**2).sum(1) - (P * dZ).sum(1) ** 2).sum()) / q.N


def convex_step(q: ClassProblem, Z: Array, b: Array, dZ: Array, slope: float) -> float:
    """argmin over r >= 0 of data term(Z + r dZ, b) + slope r: safeguarded Newton, elementwise work only."""
    r, low, high = 0.0, 0.0, np.inf
    for _ in range(60):
        _, G, _ = q.data_term(Z + r * dZ, b)
        derivative = float(np.vdot(G, dZ)) + slope
        low, high = (r, high) if derivative < 0 else (low, r)
        curvature = curvature_along(q, G, dZ)
        new = r - derivative / curvature if curvature > 0 else np.inf
        if not low < new < high:
            new = 0.5 * (low + high) if np.isfinite(high) else max(2 * low, 1e-300)
        new = min(new, 10 * r) if r > 0 else new
        if abs(new - r) <= 1e-3 * new:
            return new
        r = new
    return low


def escape(objective: Objective, state: State, decrease: float) -> State | None:
    """The state after leaving a saddle along every descent pair, or None where that does not beat the local model.

    `decrease` is what the local quadratic model promises. Directions of the feature space whose content is negligible
    beside what the escape puts there count as null, and are emptied first.
    """
    q, run = objective.q, objective.run
    U, sigma, Vt = np.linalg.svd(state.G)
    run.charge(20, q.K)
    excess = sigma - q.tau
    count = int((excess > max(0.0, _ROUNDING * excess[0])).sum())
    if count == 0:
        return None
    U, V = U[:, :count], Vt[:count].T
    shares = excess[:count] if q.loss.name == "mse" else np.linalg.norm(q.root[:, None] * U, axis=0)
    ceiling = curvature_along(q, state.G, (U * shares) @ V.T)
    reach = excess[:count] @ shares / ceiling if ceiling > 0 else q.N
    null = null_basis(state.A, state.B, _EMPTY * reach * shares.max())
    run.charge(8 * objective.columns / q.K, objective.columns)
    count = min(count, null.shape[1])
    if count == 0:
        return None
    null, shares, U, V = null[:, :count], shares[:count], U[:, :count], V[:, :count]
    A, B = (X - (X @ null) @ null.T for X in (state.A, state.B))
    r = convex_step(q, B @ A.T, state.b, (U * -shares) @ V.T, q.tau * shares.sum())
    run.charge(1, objective.columns)
    content = np.sqrt(r * shares)
    new = objective.at(A + (V * content) @ null.T, B - (U * content) @ null.T, state.b)
    if new.loss >= state.loss - 10 * decrease - 1e-14 * abs(state.loss):
        return None
    run.escapes += 1
    return new
