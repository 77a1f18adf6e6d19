"""The factors of scores that have the least penalty, in a chosen gauge."""

from __future__ import annotations

from functools import partial

import numpy as np

from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import product
from .._runtime.threads import concurrently
from .objective import Objective, State


def rebalance(objective: Objective, state: State, least: float, aligned: bool) -> State | None:
    """The state with A^T A = B^T B and the same Z; None where that gains no more than `least` or evaluations ran out.

    The least penalty of factors of Z is tau |Z|_* (two ridges make a nuclear norm). Steps in A and B bring them there
    very slowly where tau is small beside the curvature of the loss. The factors are turned so as to stay near the old
    ones or, aligned (which takes K columns), so that column k belongs to class k: A and B as near symmetric as may be.
    """
    problem = objective.problem
    if objective.work.exhausted:
        return None
    times = partial(product, threads=problem.workers)
    (QA, RA), (QB, RB) = concurrently([partial(linalg.qr, X) for X in (state.A, state.B)], min(2, problem.workers))
    U, s, Vt = linalg.svd(times(RB, RA.T), full_matrices=False)
    rank = s.size
    objective.work.charge(24 * (rank / problem.K) ** 2, rank)
    penalty = 0.5 * problem.tau * (problem.square(state.A) + problem.square(state.B))
    if penalty - problem.tau * s.sum() <= least:
        return None
    return _turned(objective, state, times(QB, U), s, times(Vt, QA.T), aligned)


def factored(objective: Objective, state: State, Z: Array, aligned: bool, threshold: float = 0.0) -> State:
    """The state at other scores: at Z with its singular values soft-thresholded, as far as the columns hold these."""
    U, s, Vt = linalg.svd(Z, full_matrices=False)
    s = np.maximum(s - threshold, 0.0)
    objective.work.charge(22, objective.problem.K)
    rank = min(s.size, objective.columns)
    return _turned(objective, state, np.ascontiguousarray(U[:, :rank]), s[:rank], Vt[:rank], aligned)


def _turned(objective: Objective, state: State, U: Array, s: Array, Vt: Array, aligned: bool) -> State:
    """The state with balanced factors of U s Vt: near those of `state` or, aligned, as near symmetric as may be."""
    problem, rank, root = objective.problem, s.size, np.sqrt(s)[:, None]
    times = partial(product, threads=problem.workers)
    if aligned:
        toward = np.pad(U.T + Vt, ((0, 0), (0, objective.columns - problem.K)))
    else:
        toward = root * (times(Vt, state.A) + times(U.T, state.B))
    left, _, right = linalg.svd(toward, full_matrices=False)
    turned = root * times(left, right)
    objective.work.charge(22 * (rank / problem.K) ** 2, rank)
    return objective.at(times(Vt.T, turned), times(U, turned), state.b)
