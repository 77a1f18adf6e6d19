"""Rebalancing: the factors of the same Z with the least penalty."""

from __future__ import annotations

import numpy as np

from .objective import Objective, State


def rebalance(objective: Objective, state: State, decrease: float) -> State | None:
    """The state with A^T A = B^T B and the same Z, or None where that gains less than `decrease`.

    The least penalty of factors of Z is tau |Z|_* (two ridges make a nuclear norm). Steps in A and B bring them there
    very slowly where tau is small beside the curvature of the loss. The factors are turned so as to stay near the old.
    """
    q = objective.q
    (QA, RA), (QB, RB) = np.linalg.qr(state.A), np.linalg.qr(state.B)
    U, s, Vt = np.linalg.svd(RB @ RA.T)
    rank = s.size
    objective.run.charge(24 * (rank / q.K) ** 2, rank)
    penalty = 0.5 * q.tau * (np.vdot(state.A, state.A) + np.vdot(state.B, state.B))
    if penalty - q.tau * s.sum() <= max(decrease, 1e-13 * abs(state.loss)):
        return None
    root = np.sqrt(s)[:, None]
    left, _, right = np.linalg.svd(root * (Vt @ RA + U.T @ RB), full_matrices=False)
    turned = root * (left @ right)
    objective.run.charge(22 * (rank / q.K) ** 2, rank)
    return objective.at(QA @ (Vt.T @ turned), QB @ (U @ turned), state.b)
