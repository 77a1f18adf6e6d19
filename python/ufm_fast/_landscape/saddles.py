"""Exact strict saddles of any rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._exact.groups import Groups
from .._exact.symmetry import SymmetricPoint
from .._model.canonical import CanonicalProblem
from .._model.facts import checked_model, has_plain_classes, is_balanced, largest_rank
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._model.model import UFM, in_double
from .._model.point import Point
from .._numerics.newton import newton, quasi_newton_descent
from .._optimize.factored_objective import FactoredObjective
from .._optimize.factors import of_least_rank
from .._optimize.group_start import alone
from .._optimize.groups import GroupedProblem, near_minimum
from .._optimize.objective import Objective
from .._optimize.start import has_start, start_of
from .._optimize.work import Work
from .._runtime import linalg
from .._runtime.arguments import whole_number
from .._runtime.arrays import Array
from .._runtime.blas import single_threaded_blas
from .._runtime.memory import require_memory

_TOLERANCE = 1e-12  # of the gradient, asked for
_ACCEPTED = 1e-10  # and insisted on
_DESCENT = 1e-5  # at which Newton's method takes over
_ATTEMPTS = 3
_NEGLIGIBLE = 1e-6  # a singular value of A, relative to the largest, that counts as zero
_ABSENT = 1e-12  # the same of the scores at a critical point
_NEAR = 1e-8  # gap at which a minimum serves for a start


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
        If `seed` is negative; the loss is not convex in the logits, where critical points of a narrower model need be
        no saddles; or there is no saddle of this rank: `rank` is out of range for K, d and the loss, or the decays are
        so large that the global minimum has no greater rank.
    ArithmeticError
        If Newton's method stops short of the accuracy promised.
    MemoryError
        If there is less memory than the sizes of the model ask for.

    Notes
    -----
    Cost: O(K^2 d) for closed forms and symmetry reduction. Descent and Newton's method take hundreds to thousands of
    gradients and Hessian products, each three or six products of a K x rank with a rank x K matrix.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> p = uf.saddle(ufm, rank=2)
    >>> uf.classify(ufm, p).kind
    'strict_saddle'
    """
    rank, seed = whole_number(rank, "rank"), whole_number(seed, "seed", 0)
    if not checked_model(ufm).loss_function.convex:
        raise ValueError(f"ufm must have a loss that is convex in the logits, not {ufm.loss_function}")
    problem = CanonicalProblem(ufm)
    largest = min(ufm.d, largest_rank(ufm)) - 1
    if not 0 <= rank <= largest:
        raise ValueError(
            f"rank must be between 0 and {largest} for a saddle of a {problem.loss.name} model with K = {ufm.K} and "
            f"d = {ufm.d}, not {rank}"
        )
    numbers = 3 * problem.M * problem.K + 2 * (problem.M + problem.K) * (ufm.d + rank)
    require_memory("saddle", numbers, K=ufm.K, M=problem.M, d=ufm.d, rank=rank)
    zero = np.zeros((problem.M, problem.K))
    b = problem.best_bias(zero, np.zeros(problem.biases))
    if not _exceeds(problem.data_term(zero, b)[1], problem.tau):
        raise ValueError(f"{ufm!r} has no saddles: its decays are so large that W = H = 0 is the global minimum")
    generator = np.random.default_rng(seed)
    at_zero = _Critical(np.zeros((problem.K, 0)), np.zeros((problem.M, 0)), b)
    A, B, b = at_zero if rank == 0 else _critical(problem, rank, generator)
    turn = linalg.qr(generator.standard_normal((problem.d, rank)))[0]
    return problem.point(A @ turn.T, B @ turn.T, b)


def _critical(problem: CanonicalProblem, rank: int, generator: np.random.Generator) -> _Critical:
    known = _KNOWN.get(type(problem.loss)) if has_plain_classes(problem.ufm) else None
    found = None if known is None else known(problem, rank, generator)
    return _lower_dimension(problem.ufm, rank, generator) if found is None else found


def _merged_groups(problem: CanonicalProblem, rank: int, generator: np.random.Generator) -> _Critical | None:
    """Cross-entropy, optimal among the points of this rank at which the classes of a group coincide; None if none is.

    Groups have classes of equal counts, so that a symmetry reduction finds the point. Where there are no more than
    rank + 1 distinct counts there are rank + 1 groups, otherwise one a count, and the rank is that of the reduced
    problem: with near-equal classes merged, few directions compete, and a descent is short.
    """
    counts = problem.rows.ridges
    distinct = len(np.unique(counts))
    group, block, groups = _deal(problem, max(distinct, rank + 1), generator)
    function = FactoredObjective(groups.model(problem.ufm), rank if rank + 1 < distinct else len(groups.blocks))
    if rank + 1 < distinct:
        x = quasi_newton_descent(function, function.layout.pack(*_narrow_start(problem.ufm, rank, generator)), _DESCENT)
    else:
        A, B = alone(groups, problem.tau, problem.loss.parameters["label_smoothing"])
        x = function.layout.pack(A, B, function.problem.best_bias(B @ A.T, np.zeros(len(A))))
    x, error = newton(function, x, _TOLERANCE)
    A, B, b = function.layout.unpack(x)
    _, G, _ = function.problem.data_term(B @ A.T, b)
    contrast, M = groups.contrasts(function.problem, G), groups.classes
    A, B = of_least_rank(A, B, _ABSENT, float(contrast.max()))
    point = SymmetricPoint(problem.ufm, group, block, M, groups.size, contrast, A, B, b / np.sqrt(M))
    critical = _Critical(*point.factors(), point.bias[group])
    return critical if error <= _ACCEPTED and _rank(critical) == rank and _is_above(problem, critical) else None


def _deal(
    problem: CanonicalProblem, groups: int, generator: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp], Groups]:
    """Deal classes of equal counts out to so many blocks, of at most two sizes a count.

    Blocks of equal counts and sizes are a group; where that would be the only one, its first block is one by itself.
    """
    counts = problem.rows.ridges
    samples, kind = np.unique(counts, return_inverse=True)
    M = np.bincount(kind)
    further = generator.permutation(np.repeat(np.arange(len(M)), M - 1))[: groups - len(M)]
    found: list[tuple[float, int, int]] = []
    group_of, block = np.empty(len(counts), dtype=np.intp), np.empty(len(counts), dtype=np.intp)
    for i, blocks in enumerate(1 + np.bincount(further, minlength=len(M))):
        members, owner = generator.permutation(np.flatnonzero(kind == i)), np.arange(M[i]) % blocks
        size, larger = divmod(int(M[i]), int(blocks))
        first = max(larger, int(len(M) == 1))
        for chosen, start, count in ((owner < first, 0, first), (owner >= first, first, blocks - first)):
            if count > 0:
                group_of[members[chosen]], block[members[chosen]] = len(found), owner[chosen] - start
                found.append((samples[i], count, size + (start == 0 and larger > 0)))
    ridges, blocks, sizes = np.array(found, dtype=float).T
    ones = np.ones_like(ridges)
    return group_of, block, Groups(ridges, ridges / problem.samples, ones, 0 * ones, blocks, sizes)


def _narrow_start(ufm: UFM, rank: int, generator: np.random.Generator) -> tuple[Array, Array, Array]:
    """A random choice of the singular pairs of the optimum's scores between groups of classes of equal counts."""
    A, B, b, _ = near_minimum(GroupedProblem(ufm), _NEAR)
    return *_some_pairs(B @ A.T, rank, generator), b


def _some_pairs(Z: Array, rank: int, generator: np.random.Generator) -> tuple[Array, Array]:
    """Factors with so many of the singular pairs of scores, but for the last."""
    U, s, Vt = linalg.svd(Z)
    chosen = generator.permutation(len(s) - 1)[:rank]
    root = np.sqrt(s[chosen])
    return Vt[chosen].T * root, U[:, chosen] * root


def _singular_modes(problem: CanonicalProblem, rank: int, generator: np.random.Generator) -> _Critical | None:
    """Squared error: a choice of the pairs of singular vectors whose soft thresholding gives the optimum.

    None where that is not known: with classes of different counts and a bias with a decay.
    """
    balanced = is_balanced(problem.ufm)
    if not balanced and problem.bias and problem.lambda_b > 0:
        return None
    if balanced:  # the centred vectors all belong to one singular value; the mean has its own
        c = problem.lambda_b / (1 + problem.lambda_b) if problem.bias else 1.0
        lost = problem.K * problem.root[0] * problem.tau
        values = problem.root[0] * np.array([1 - lost] * (problem.K - 1) + [1 - lost / c if c > 0 else 0.0])
    else:
        shifted = np.diag(problem.root) - (np.outer(problem.root, problem.weights) if problem.bias else 0.0)
        left, values, right = linalg.svd(shifted)
        values = values - problem.samples * problem.tau
    present = np.flatnonzero(values > 0)
    if rank >= present.size:
        raise ValueError(
            f"rank must be less than {present.size}, the rank of the global minimum of {problem.ufm!r}, not {rank}"
        )
    chosen = generator.permutation(present)[:rank]
    if balanced:
        U = generator.standard_normal((problem.K, rank))
        U = linalg.qr(U - U.mean(axis=0))[0]
        U[:, chosen == problem.K - 1] = 1 / math.sqrt(problem.K)
        V = U
    else:
        U, V = left[:, chosen], right[chosen].T
    root = np.sqrt(values[chosen])
    A, B = V * root, U * root
    return _Critical(A, B, problem.best_bias(B @ A.T, np.zeros(problem.K)))


_KNOWN: dict[type[Loss], Callable[[CanonicalProblem, int, np.random.Generator], _Critical | None]] = {
    CrossEntropy: _merged_groups,
    MSE: _singular_modes,
}


def _lower_dimension(ufm: UFM, rank: int, generator: np.random.Generator) -> _Critical:
    """Minimise with d = rank."""
    function = FactoredObjective(ufm, rank)
    problem = function.problem
    found = 0
    for _ in range(_ATTEMPTS):
        start = quasi_newton_descent(function, _start(ufm, function, generator), _DESCENT)
        x, error = newton(function, start, _TOLERANCE)
        if error > _ACCEPTED:
            continue
        critical = _Critical(*function.layout.unpack(x))
        found = _rank(critical)
        if found == rank and _is_above(problem, critical):
            return critical
    if found == 0:
        _check_accuracy(ufm, rank, error)
    raise ValueError(
        f"no saddle of rank {rank} found: {_ATTEMPTS} descents in {rank} feature dimensions ended at the global "
        f"minimum of {ufm!r}, whose rank is {found}"
    )


def _rank(p: _Critical) -> int:
    singular = linalg.svd(p.A, compute_uv=False)
    return int(np.count_nonzero(singular > _NEGLIGIBLE * singular.max(initial=0.0)))


def _is_above(problem: CanonicalProblem, p: _Critical) -> bool:
    """Whether a critical point is not the global minimum."""
    return _exceeds(problem.data_term(p.B @ p.A.T, p.b)[1], problem.tau * (1 + 1e-9))


def _exceeds(G: Array, threshold: float) -> bool:
    """Whether |G|_2 > threshold; a row of G often tells."""
    rows = np.sqrt(np.einsum("ij,ij->i", G, G))
    return bool(rows.max() > threshold or linalg.svd(G, compute_uv=False)[0] > threshold)


def _check_accuracy(ufm: UFM, rank: int, error: float) -> None:
    if error > _ACCEPTED:
        raise ArithmeticError(
            f"no saddle of rank {rank} of {ufm!r}: Newton's method stopped at a relative gradient of {error:.1e}"
        )


def _start(ufm: UFM, function: FactoredObjective, generator: np.random.Generator) -> Array:
    """A random choice of the singular pairs of scores near the optimum's, or random factors where none are known."""
    rank, problem = function.layout.columns, CanonicalProblem(in_double(ufm, collapse=True, d=ufm.K))
    if has_start(problem):
        near = start_of(problem, _NEAR)
        objective = Objective(near.problem, near.problem.K, Work(problem.K, problem.K, 1))
        A, B, _ = near.to_model(objective.at(near.A, near.B, near.b))
        A, B = _some_pairs(B @ A.T, rank, generator)
    else:
        A, B = (0.3 * generator.standard_normal((n, rank)) for n in (problem.K, problem.M))
    return function.layout.pack(A, B, problem.best_bias(B @ A.T, np.zeros(problem.biases)))
