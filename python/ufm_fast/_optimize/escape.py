"""The way down from a saddle, or from far away: all descent pairs at once, with an exact one-dimensional convex step.

Let a be a common null vector of A and B and (u, v) singular vectors of the gradient matrix G with singular value sigma.
Moving B by -sqrt(r) u a^T and A by +sqrt(r) v a^T changes Z = B A^T by exactly -r u v^T and the penalty by exactly
tau r, so the loss along r is convex with slope tau - sigma at 0. Orthonormal null vectors serve several pairs at once.

How much of each? Squared error curves equally in all directions, so in proportion to the excess sigma - tau. Where
the loss saturates, as cross-entropy does, so that the logits Z_k / sqrt(n_k) change by the same size with each pair.
The excess can be 1000 times smaller for classes that the saddle already tells apart, but in the wrong geometry (as
opposite vectors, say), and a pair left with little is where the descent then stays.

Factors with columns enough for any scores need no null vectors: their least penalty for scores Z is tau |Z|_*, which
Z - r (sum of the shares u v^T) raises by tau r times the shares' sum at most. So there the same step serves at any
point, and for squared error a proximal gradient step, which has that penalty exactly (a soft threshold of singular
values; Cai, Candes and Shen, arXiv:0810.3286).
"""

from __future__ import annotations

import numpy as np

from .._certify.dual import EIGH_PRODUCTS
from .._model.canonical import CanonicalProblem
from .._model.facts import largest_rank
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import gram, product
from .balance import factored
from .objective import Objective, State

_ROUNDING = 1e-6  # of the largest excess: at a saddle of rank r, r singular values of G are tau
_EMPTY = 1e-4  # of what an escape puts into a direction


def null_basis(A: Array, B: Array, content: float, threads: int) -> Array:
    """Orthonormal columns a, least content first, with |A a|^2 + |B a|^2 at most `content`."""
    squares, vectors = linalg.eigh(gram(A, threads) + gram(B, threads))
    return vectors[:, squares <= content]


def descent_pairs(problem: CanonicalProblem, G: Array) -> tuple[Array, Array, Array]:
    """Singular vectors (columns of U and V) of G with singular values sigma above tau, and sigma - tau, descending.

    From the eigenvectors of G^T G: an error of a few u |G|^2 in the squares is nothing beside the least excess that
    counts.
    """
    squares, V = linalg.eigh(gram(G, problem.workers))
    sigma = np.sqrt(np.maximum(squares[::-1], 0))
    excess = sigma - problem.tau
    count = int((excess > max(0.0, _ROUNDING * excess[0])).sum())
    V = np.ascontiguousarray(V[:, ::-1][:, :count])
    return product(G, V, problem.workers) / sigma[:count], V, excess[:count]


def convex_step(problem: CanonicalProblem, Z: Array, b: Array, dZ: Array, slope: float) -> float:
    """argmin over r >= 0 of data term(Z + r dZ, b) + slope r: safeguarded Newton, elementwise work only."""
    r, low, high = 0.0, 0.0, np.inf
    for _ in range(60):
        _, G, _ = problem.data_term(Z + r * dZ, b)
        derivative = float(np.vdot(G, dZ)) + slope
        low, high = (r, high) if derivative < 0 else (low, r)
        curvature = problem.curvature_along(G, dZ)
        new = r - derivative / curvature if curvature > 0 else np.inf
        if not low < new < high:
            new = 0.5 * (low + high) if np.isfinite(high) else max(2 * low, 1e-300)
        new = min(new, 10 * r) if r > 0 else new
        if abs(new - r) <= 1e-3 * new:
            return new
        r = new
    return low


def holds_all_scores(objective: Objective) -> bool:
    """Whether the factors have columns for any scores at a critical point, so that their problem is as if convex."""
    return objective.problem.loss.convex and objective.columns >= largest_rank(objective.problem.ufm)


def escape(objective: Objective, state: State, least: float, aligned: bool) -> State | None:
    """The state further down along every descent pair; None where that gains no more than `least`.

    Where the columns hold all scores the factors are balanced, and in the class-aligned gauge if `aligned`.
    """
    if not holds_all_scores(objective):
        new = _by_empty_directions(objective, state)
    elif objective.problem.loss.saturates:
        new = _by_scores(objective, state, aligned)
    else:
        step = 1 / (objective.problem.loss.curvature * objective.problem.largest_ratio)
        new = factored(objective, state, state.Z - step * state.G, aligned, step * objective.problem.tau)
    return new if new is not None and new.loss < state.loss - least else None


def _shared_pairs(objective: Objective, state: State) -> tuple[Array, Array, Array, Array]:
    """Return the descent pairs, their excess and how much of each a step takes."""
    problem = objective.problem
    U, V, excess = descent_pairs(problem, state.G)
    objective.work.charge(EIGH_PRODUCTS + 2, problem.K)
    shares = np.linalg.norm(problem.root[:, None] * U, axis=0) if problem.loss.saturates else excess
    return U, V, excess, shares


def _by_scores(objective: Objective, state: State, aligned: bool) -> State | None:
    problem = objective.problem
    U, V, excess, shares = _shared_pairs(objective, state)
    if excess.size == 0:
        return None
    dZ = product(U * -shares, V.T, problem.workers)
    r = convex_step(problem, state.Z, state.b, dZ, problem.tau * shares.sum())
    return factored(objective, state, state.Z + r * dZ, aligned)


def _by_empty_directions(objective: Objective, state: State) -> State | None:
    """Put every descent pair into a direction of the feature space that is empty.

    Directions whose content is negligible beside what the escape puts there count as empty, and are emptied first.
    """
    problem, work = objective.problem, objective.work
    U, V, excess, shares = _shared_pairs(objective, state)
    if excess.size == 0:
        return None
    ceiling = problem.curvature_along(state.G, product(U * shares, V.T, problem.workers))
    reach = excess @ shares / ceiling if ceiling > 0 else 1 / problem.largest_ratio
    null = null_basis(state.A, state.B, _EMPTY * reach * shares.max(), problem.workers)
    work.charge(8 * objective.columns / problem.K, objective.columns)
    count = min(excess.size, null.shape[1])
    if count == 0:
        return None
    null, U, V = (np.ascontiguousarray(X[:, :count]) for X in (null, U, V))
    shares = shares[:count]
    A, B = (X - product(product(X, null, problem.workers), null.T, problem.workers) for X in (state.A, state.B))
    Z, dZ = product(B, A.T, problem.workers), product(U * -shares, V.T, problem.workers)
    r = convex_step(problem, Z, state.b, dZ, problem.tau * shares.sum())
    work.charge(1, objective.columns)
    content = np.sqrt(r * shares)
    A += product(V * content, null.T, problem.workers)
    B -= product(U * content, null.T, problem.workers)
    return objective.at(A, B, state.b)
