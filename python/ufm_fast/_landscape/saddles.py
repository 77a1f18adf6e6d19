"""Exact strict saddles of any rank."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._exact.symmetric_problem import Types
from .._exact.symmetry import solve
from .._model.canonical import ClassProblem
from .._model.model import UFM, Point
from .._numerics.newton import Array, descend, newton
from .._optimize.grouped import grouped_factors
from .._optimize.start import squared_error_logits
from .._runtime.arguments import whole_number
from .._runtime.blas import single_threaded_blas
from .factors import Factors

_TOLERANCE = 1e-12  # of the gradient, asked for
_ACCEPTED = 1e-10  # and insisted on
_DESCENT = 1e-5  # at which Newton's method takes over
_ATTEMPTS = 3
_NEGLIGIBLE = 1e-6  # a singular value of A, relative to the largest, that counts as zero


class _Critical(NamedTuple):
    """A critical point in canonical class coordinates with as many columns as its rank."""

    A: Array
    B: Array
    b: Array


@single_threaded_blas()
def saddle(ufm: UFM, rank: int, seed: int = 0) -> Point:
    """Give an exact strict saddle at which W and H have a chosen rank.

    Every critical point whose rank is below d is the global minimum or a strict saddle, and is a critical point of the
    model with d = rank as well (Gu and Shen 2024, arXiv:2407.10702; Zhu et al. 2021, arXiv:2105.02375). Used are, in
    this order: W = H = 0 with the optimal bias (rank 0); for squared error with balanced classes, without a bias or
    without a bias decay, the singular vectors of the shifted targets, any `rank` of them; for cross-entropy, the
    optimum with classes of equal counts merged into rank + 1 groups or, where more counts than that are distinct, a
    minimum of that rank with all classes of equal counts merged, by symmetry reduction; otherwise a minimum of the
    model with d = rank. Minima come from quasi-Newton descent and Newton's method. The point is then turned randomly
    within the feature space.

    Parameters
    ----------
    ufm : UFM
        With ``d > rank``.
    rank : int
        Rank of W and H: at least 0 and less than that of the global minimum, which is at most K - 1 for cross-entropy
        and for squared error with an unregularised bias, and at most K otherwise.
    seed : int, optional
        Not negative. Picks one of the saddles: the singular vectors, the groups or the start, and the rotation.

    Returns
    -------
    Point
        With a gradient of at most 1e-10 of tau |(A, B)| in canonical coordinates A = W / rho, B = rho sqrt(n_k) h_k,
        rho = (lambda_H / lambda_W)^(1/4), before it is rounded to the model's dtype (rank 0: of the norm of the class
        frequencies).

    Raises
    ------
    TypeError
        If `rank` or `seed` is not an int.
    ValueError
        If `seed` is negative, or there is no saddle of this rank: `rank` is out of range for K, d and the loss; or the
        decays are so large that the global minimum has no greater rank.
    ArithmeticError
        If Newton's method stops short of the accuracy promised.

    Notes
    -----
    Cost: O(K^2 d) for closed forms and symmetry reduction. Descent and Newton's method take hundreds to thousands of
    gradients and Hessian products, each three or six products of a K x rank with a rank x K matrix.
    """
    rank, seed = whole_number(rank, "rank"), whole_number(seed, "seed", 0)
    q = ClassProblem(ufm)
    centred = q.loss.name == "cross_entropy" or (q.bias and q.lambda_b == 0)
    largest = min(q.d - 1, q.K - 2 if centred else q.K - 1)
    if not 0 <= rank <= largest:
        raise ValueError(
            f"rank must be between 0 and {largest} for a saddle of a {q.loss.name} model with K = {q.K} and d = {q.d}, "
            f"not {rank}"
        )
    b = q.best_bias(np.zeros((q.K, q.K)), np.zeros(q.K))
    if not _exceeds(q.data_term(np.zeros((q.K, q.K)), b)[1], q.tau):
        raise ValueError(f"{ufm!r} has no saddles: its decays are so large that W = H = 0 is the global minimum")
    generator = np.random.default_rng(seed)
    A, B, b = _Critical(np.zeros((q.K, 0)), np.zeros((q.K, 0)), b) if rank == 0 else _critical(ufm, q, rank, generator)
    turn = np.linalg.qr(generator.standard_normal((q.d, rank)))[0]
    return q.point(A @ turn.T, B @ turn.T, b)


def _critical(ufm: UFM, q: ClassProblem, rank: int, generator: np.random.Generator) -> _Critical:
    balanced = bool((q.counts == q.counts[0]).all())
    if q.loss.name == "mse":
        if balanced or not (q.bias and q.lambda_b > 0):
            return _singular_modes(q, rank, generator, balanced)
    elif (merged := _merged_groups(ufm, q, rank, generator)) is not None:
        return merged
    return _lower_dimension(ufm, rank, generator)


def _merged_groups(ufm: UFM, q: ClassProblem, rank: int, generator: np.random.Generator) -> _Critical | None:
    """Cross-entropy, optimal among the points of this rank at which the classes of a group coincide; None if none is.

    Groups have classes of equal counts, so that a symmetry reduction finds the point. Where there are no more than
    rank + 1 distinct counts there are rank + 1 groups, otherwise one a count, and the rank is that of the reduced
    problem: with near-equal classes merged, few directions compete, and a descent is short.
    """
    distinct = len(np.unique(q.counts))
    group, block, types = _deal(q.counts, max(distinct, rank + 1), generator)
    start = _narrow_start(q, group, rank, generator) if rank + 1 < distinct else None
    point, _, error = solve(ufm, group, block, types, start)
    critical = _Critical(*point.factors(), point.bias[group])
    return critical if error <= _ACCEPTED and _rank(critical) == rank and _is_above(q, critical) else None


def _deal(counts: Array, groups: int, generator: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], Types]:
    """Deal classes of equal counts out to so many groups: at most two sizes of groups, that is two types, a count."""
    samples, kind = np.unique(counts, return_inverse=True)
    M = np.bincount(kind)
    further = generator.permutation(np.repeat(np.arange(len(M)), M - 1))[: groups - len(M)]
    types: list[tuple[float, int, int]] = []
    type_of, block = np.empty(len(counts), dtype=np.intp), np.empty(len(counts), dtype=np.intp)
    for i, blocks in enumerate(1 + np.bincount(further, minlength=len(M))):
        members, owner = generator.permutation(np.flatnonzero(kind == i)), np.arange(M[i]) % blocks
        size, larger = divmod(int(M[i]), int(blocks))
        for chosen, first, count in ((owner < larger, 0, larger), (owner >= larger, larger, blocks - larger)):
            if count > 0:
                type_of[members[chosen]], block[members[chosen]] = len(types), owner[chosen] - first
                types.append((samples[i], count, size + (first == 0 and larger > 0)))
    return type_of, block, Types(*np.array(types, dtype=float).T)


def _narrow_start(
    q: ClassProblem, group: NDArray[Any], rank: int, generator: np.random.Generator
) -> tuple[Array, Array, Array]:
    """A random choice of the singular pairs of scores near the optimum's, for groups with one type each."""
    A, B, b, _ = grouped_factors(q)
    M = np.bincount(group)
    indicators = np.equal.outer(group, np.arange(len(M))) / np.sqrt(M)
    U, s, Vt = np.linalg.svd((indicators.T @ B) @ (A.T @ indicators))
    chosen = generator.permutation(len(M) - 1)[:rank]
    root = np.sqrt(s[chosen])
    return Vt[chosen].T * root, U[:, chosen] * root, indicators.T @ b


def _singular_modes(q: ClassProblem, rank: int, generator: np.random.Generator, balanced: bool) -> _Critical:
    """Squared error: a choice of the pairs of singular vectors whose soft thresholding gives the optimum."""
    if balanced:  # the centred vectors all belong to one singular value; the mean has its own
        c = q.lambda_b / (1 + q.lambda_b) if q.bias else 1.0
        lost = q.K * math.sqrt(q.counts[0]) * q.tau
        values = q.root[0] * np.array([1 - lost] * (q.K - 1) + [1 - lost / c if c > 0 else 0.0])
    else:
        shifted = np.diag(q.root) - (np.outer(q.root, q.weights) if q.bias else 0.0)
        left, values, right = np.linalg.svd(shifted)
        values = values - q.N * q.tau
    present = np.flatnonzero(values > 0)
    if rank >= present.size:
        raise ValueError(
            f"rank must be less than {present.size}, the rank of the global minimum of {q.ufm!r}, not {rank}"
        )
    chosen = generator.permutation(present)[:rank]
    if balanced:
        U = generator.standard_normal((q.K, rank))
        U = np.linalg.qr(U - U.mean(axis=0))[0]
        U[:, chosen == q.K - 1] = 1 / math.sqrt(q.K)
        V = U
    else:
        U, V = left[:, chosen], right[chosen].T
    root = np.sqrt(values[chosen])
    A, B = V * root, U * root
    return _Critical(A, B, q.best_bias(B @ A.T, np.zeros(q.K)))


def _lower_dimension(ufm: UFM, rank: int, generator: np.random.Generator) -> _Critical:
    """Minimise with d = rank."""
    function = Factors(ufm, rank)
    q = function.q
    found = 0
    for _ in range(_ATTEMPTS):
        x, error = newton(function, descend(function, _start(ufm, function, generator), _DESCENT), _TOLERANCE)
        if error > _ACCEPTED:
            continue
        critical = _Critical(*function.split(x))
        found = _rank(critical)
        if found == rank and _is_above(q, critical):
            return critical
    if found == 0:
        _check_accuracy(ufm, rank, error)
    raise ValueError(
        f"no saddle of rank {rank} found: {_ATTEMPTS} descents in {rank} feature dimensions ended at the global "
        f"minimum of {ufm!r}, whose rank is {found}"
    )


def _rank(p: _Critical) -> int:
    singular = np.linalg.svd(p.A, compute_uv=False)
    return int(np.count_nonzero(singular > _NEGLIGIBLE * singular.max(initial=0.0)))


def _is_above(q: ClassProblem, p: _Critical) -> bool:
    """Whether a critical point is not the global minimum."""
    return _exceeds(q.data_term(p.B @ p.A.T, p.b)[1], q.tau * (1 + 1e-9))


def _exceeds(G: Array, threshold: float) -> bool:
    """Whether |G|_2 > threshold; a row of G often tells."""
    rows = np.sqrt(np.einsum("ij,ij->i", G, G))
    return bool(rows.max() > threshold or np.linalg.norm(G, 2) > threshold)


def _check_accuracy(ufm: UFM, rank: int, error: float) -> None:
    if error > _ACCEPTED:
        raise ArithmeticError(
            f"no saddle of rank {rank} of {ufm!r}: Newton's method stopped at a relative gradient of {error:.1e}"
        )


def _start(ufm: UFM, function: Factors, generator: np.random.Generator) -> Array:
    """A random choice of the singular pairs of scores near the optimum's."""
    rank = function.columns
    q = ClassProblem(ufm)
    if q.loss.name == "mse":
        Z, _ = squared_error_logits(q)
    else:
        A, B, _, _ = grouped_factors(q)
        Z = B @ A.T
    U, s, Vt = np.linalg.svd(Z)
    chosen = generator.permutation(ufm.K - 1)[:rank]
    root = np.sqrt(s[chosen])
    A, B = Vt[chosen].T * root, U[:, chosen] * root
    return function.join(A, B, q.best_bias(B @ A.T, np.zeros(q.K)))
