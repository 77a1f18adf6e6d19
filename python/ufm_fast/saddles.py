"""Exact strict saddles of any rank."""

from __future__ import annotations

import math
import operator
from typing import NamedTuple

import numpy as np

from ._blas import fitting_blas
from ._classes import ClassProblem
from ._factors import Factors
from ._newton import Array, descend, newton
from ._symmetric import Types
from .model import UFM, Point
from .optimize.grouped import grouped_factors
from .optimize.start import squared_error_logits
from .symmetry import solve

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


@fitting_blas
def saddle(ufm: UFM, rank: int, seed: int = 0) -> Point:
    """Give an exact strict saddle at which W and H have a chosen rank.

    Every critical point whose rank is below d is the global minimum or a strict saddle, and is a critical point of the
    model with d = rank as well (Gu and Shen 2024, arXiv:2407.10702; Zhu et al. 2021, arXiv:2105.02375). Used are, in
    this order: W = H = 0 with the optimal bias (rank 0); for squared error with balanced classes, without a bias or
    without a bias decay, the singular vectors of the shifted targets, any `rank` of them; for balanced cross-entropy,
    the optimum with classes merged into rank + 1 groups of equal or nearly equal size, in closed form or by symmetry
    reduction; otherwise a minimum of the model with d = rank, by quasi-Newton descent and Newton's method. The point is
    then turned randomly within the feature space.

    Parameters
    ----------
    ufm : UFM
        With ``d > rank``.
    rank : int
        Rank of W and H: at least 0 and less than that of the global minimum, which is at most K - 1 for cross-entropy
        and for squared error with an unregularised bias, and at most K otherwise.
    seed : int, optional
        Picks one of the saddles: the singular vectors, the groups or the start, and the rotation.

    Returns
    -------
    Point
        With a gradient of at most 1e-10 of tau |(A, B)| in canonical coordinates A = W / rho, B = rho sqrt(n_k) h_k,
        rho = (lambda_H / lambda_W)^(1/4), before it is rounded to the model's dtype (rank 0: of the norm of the class
        frequencies).

    Raises
    ------
    TypeError
        If `rank` is not an int.
    ValueError
        If there is no saddle of this rank: `rank` is out of range for K, d and the loss; or the decays are so large
        that the global minimum has no greater rank.
    ArithmeticError
        If Newton's method stops short of the accuracy promised.

    Notes
    -----
    Cost: O(K^2 d) for closed forms and symmetry reduction. Descent and Newton's method take hundreds to thousands of
    gradients and Hessian products, each three or six products of a K x rank with a rank x K matrix.
    """
    try:
        rank = operator.index(rank)
    except TypeError:
        raise TypeError(f"rank must be an int, not {type(rank).__name__}") from None
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
    elif balanced:
        return _merged_groups(ufm, rank, generator)
    return _lower_dimension(ufm, rank, generator)


def _merged_groups(ufm: UFM, rank: int, generator: np.random.Generator) -> _Critical:
    """Balanced cross-entropy, optimal among the points at which the classes of a group coincide.

    The classes are dealt out to rank + 1 groups, so that there are at most two sizes of groups: a symmetry reduction
    to at most 12 numbers. Equal groups have a closed form, with which Newton's method starts: every wrong class outside
    the group has probability sqrt(n) tau + smoothing / K, as at the optimum.
    """
    K, groups = ufm.K, rank + 1
    deal = generator.permutation(K)
    owner = np.empty(K, dtype=np.intp)
    owner[deal] = np.arange(K) % groups
    larger = K % groups  # the first groups have one class more
    blocks = np.array([larger, groups - larger] if larger else [groups], dtype=float)
    sizes = np.array([K // groups + 1, K // groups] if larger else [K // groups], dtype=float)
    group = np.where(owner < larger, 0, 1 if larger else 0)
    types = Types(np.full(len(blocks), float(ufm.counts[0])), blocks, sizes)
    point, _, error = solve(ufm, group, owner - np.where(group == 1, larger, 0), types)
    _check_accuracy(ufm, rank, error)
    return _Critical(*point.factors(), point.bias[group])


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
        A, B, b = function.split(x)
        singular = np.linalg.svd(A, compute_uv=False)
        found = int(np.count_nonzero(singular > _NEGLIGIBLE * singular[0]))
        if found == rank and _exceeds(q.data_term(B @ A.T, b)[1], q.tau * (1 + 1e-9)):
            return _Critical(A, B, b)
    if found == 0:
        _check_accuracy(ufm, rank, error)
    raise ValueError(
        f"no saddle of rank {rank} found: {_ATTEMPTS} descents in {rank} feature dimensions ended at the global "
        f"minimum of {ufm!r}, whose rank is {found}"
    )


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
