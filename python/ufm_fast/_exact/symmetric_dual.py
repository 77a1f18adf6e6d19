"""A lower bound on the minimum of a `SymmetricProblem`, from the dual problem of `_dual` on symmetric points.

The dual point is the flow of probabilities between types, in floating-point numbers, so rows sum to zero exactly and
every wrong class keeps relative accuracy. Allowances for rounding are as in `_dual`, with sums over m types in place of
K classes.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import xlog1py

from .._runtime.arrays import Array
from .symmetric_problem import Flow, SymmetricProblem

_UNIT = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)


def lower_bound(problem: SymmetricProblem, flow: Flow) -> float:
    """Bound the minimum of the full problem from below by scaling the flow at a point into the dual ball.

    First order in the error of the point, and exact at the minimum. Blocks must have size 1. Cost: O(m^2) and an m x m
    singular value decomposition.
    """
    free = problem.bias and problem.lambda_b == 0
    others, own = _balanced(problem, flow) if free else flow
    m, samples = problem.m, problem.types.samples
    rounding = (32 + m / 4) * _UNIT
    norm = spectral_norm(problem, Flow(others, own))
    sizes = np.abs(others) * problem.in_mean
    size = float(np.linalg.norm(sizes)) + float((np.abs(others).sum(axis=1) * problem.in_mean.diagonal()).max())
    # always a little inside the simplex, whatever rounding does: `_dual` does this only where it matters
    scale = min(1.0, problem.tau / max(_TINY, norm + (64 + 4 * m) * _UNIT * size))
    moved = scale * (1 - 4 * rounding / (1 - problem.smoothing)) * others
    value, right = _entropy(problem, moved)
    imbalance = np.abs(moved.sum(axis=0) - moved.sum(axis=1)) + rounding * 2 * np.abs(moved).sum(axis=(0, 1))
    if free:
        right = right - rounding
        if not np.all(problem.weights * right >= imbalance):
            return 0.0
        value -= float((imbalance * (1 - np.log(np.maximum(right, _TINY)))).sum())
        value *= 1 - math.sqrt(2) * float(np.linalg.norm(imbalance / np.sqrt(problem.M * samples))) / problem.tau
    elif problem.bias:
        value -= float((imbalance**2 / problem.M).sum()) / (2 * problem.lambda_b)
    return max(0.0, value)


def spectral_norm(problem: SymmetricProblem, flow: Flow) -> float:
    """|G|_2 of the full gradient matrix with this flow."""
    gamma, Gamma, _ = problem.pull_back(flow)
    contrasts = np.abs(gamma[problem.types.blocks > 1])
    return max(float(np.linalg.norm(Gamma, 2)), float(contrasts.max(initial=0.0)))


def _balanced(problem: SymmetricProblem, flow: Flow) -> Flow:
    """Round to a flow without imbalance (Altschuler, Weed and Rigollet, arXiv:1705.09634): see `Dual.feasible`."""
    others, own = flow
    excess = flow.imbalance
    target = problem.multiplicity * (problem.smoothing / problem.K) * problem.weights[:, None]
    own_target = problem.weights - target.sum(axis=1)
    to_others, to_own = others + target, own + own_target
    taken = np.maximum(excess, 0) / (to_others.sum(axis=0) + to_own)
    rows = to_others @ taken + to_own * taken
    given = np.maximum(-excess, 0)
    share = rows / max(rows.sum(), _TINY)
    others = others - to_others * taken + np.outer(share, given / problem.M) * problem.multiplicity
    return Flow(others, -others.sum(axis=1))


def _entropy(problem: SymmetricProblem, moved: Array) -> tuple[float, Array]:
    """Weighted entropies of the probabilities less their rounding, and the probabilities of the right class."""
    base = problem.smoothing / problem.K * problem.multiplicity
    Q = moved / problem.weights[:, None] + base
    wrong = Q.sum(axis=1)
    right = 1 - wrong
    if not (Q.min() >= 0 and right.min() >= 0):
        return -np.inf, np.zeros(problem.m)
    logs = np.where(Q > 0, np.log(np.maximum(Q, _TINY)) - problem.log_multiplicity, 0.0)
    spread = -(Q * logs).sum(axis=1)
    entropy = spread - xlog1py(right, -wrong)
    terms = spread + entropy + wrong * (2 - np.log(np.maximum(right, _UNIT))) + 2 * (base * (1 - logs)).sum(axis=1)
    rounding = (32 + problem.m / 4) * _UNIT
    return float(problem.weights @ (entropy - rounding * terms)), right
