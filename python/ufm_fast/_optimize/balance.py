"""Rebalancing: the factors of the same Z with the least penalty, in a chosen gauge."""

from __future__ import annotations

from functools import partial

import numpy as np

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
    (QA, RA), (QB, RB) = concurrently([partial(np.linalg.qr, X) for X in (state.A, state.B)], min(2, problem.workers))
    U, s, Vt = np.linalg.svd(times(RB, RA.T), full_matrices=False)
    rank = s.size
    objective.work.charge(24 * (rank / problem.K) ** 2, rank)
    penalty = 0.5 * problem.tau * (problem.square(state.A) + problem.square(state.B))
    if penalty - problem.tau * s.sum() <= least:
        return None
    U, Vt, root = times(QB, U), times(Vt, QA.T), np.sqrt(s)[:, None]
    if aligned:
        toward = np.pad(U.T + Vt, ((0, 0), (0, objective.columns - problem.K)))
    else:
        toward = root * (times(Vt, state.A) + times(U.T, state.B))
    left, _, right = np.linalg.svd(toward, full_matrices=False)
    turned = root * times(left, right)
    objective.work.charge(22 * (rank / problem.K) ** 2, rank)
    return objective.at(times(Vt.T, turned), times(U, turned), state.b)
