"""Where the solver starts when the user gives no point: near the minimum, or at it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from .._exact.groups import is_grouped
from .._model.canonical import CanonicalProblem
from .._model.facts import has_plain_classes
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._runtime.arrays import Array
from .factors import aligned_factors, fitted
from .groups import GroupedProblem, near_minimum
from .record import ToModel


class Start(NamedTuple):
    """A problem, and square factors (K, K) in the class-aligned gauge and a bias near its minimum.

    The problem is the model's own, or that of its groups; `to_model` goes back. `cost` is in products of two K x K
    matrices.
    """

    problem: CanonicalProblem
    A: Array
    B: Array
    b: Array
    cost: float
    to_model: ToModel


def has_start(problem: CanonicalProblem) -> bool:
    """Whether a start near the minimum over all widths is known."""
    known = _STARTS.get(type(problem.loss))
    return known is not None and known[0](problem)


def start_of(problem: CanonicalProblem, tol: float) -> Start:
    """Return that start, for a descent to a relative gap of `tol`."""
    return _STARTS[type(problem.loss)][1](problem, tol)


def _of_groups(problem: CanonicalProblem, tol: float) -> Start:
    grouped = GroupedProblem(problem.ufm)
    return Start(grouped.problem, *near_minimum(grouped, tol), partial(grouped.to_model, problem.d))


def _squared_error(problem: CanonicalProblem, tol: float) -> Start:
    Z, decompositions = squared_error_logits(problem)
    A, B = aligned_factors(Z)
    cost = 20.0 * (decompositions + 2)
    return Start(
        problem, A, B, np.zeros(problem.K), cost, lambda state: (*fitted(state.A, state.B, problem.d), state.b)
    )


_STARTS: dict[type[Loss], tuple[Callable[[CanonicalProblem], bool], Callable[[CanonicalProblem, float], Start]]] = {
    CrossEntropy: (lambda problem: is_grouped(problem.ufm), _of_groups),
    MSE: (lambda problem: has_plain_classes(problem.ufm), _squared_error),
}


def squared_error_logits(problem: CanonicalProblem) -> tuple[Array, int]:
    """The optimal Z for squared error and the number of singular value decompositions it took.

    At a fixed bias Z is a soft-thresholded singular value decomposition, so only the bias is left to minimise over: a
    smooth convex function of K variables, the Moreau envelope of the nuclear norm. Its minimiser is known without
    a ridge on the bias.
    """
    threshold = problem.samples * problem.tau

    def decompose(b: Array) -> tuple[Array, Array, Array]:
        U, s, Vt = np.linalg.svd(np.diag(problem.root) - np.outer(problem.root, b))
        return U, s, Vt

    def envelope(b: Array) -> tuple[float, Array]:
        U, s, Vt = decompose(b)
        residual = np.minimum(s, threshold)
        value = problem.tau * (s - residual).sum() + residual @ residual / (2 * problem.samples)
        gradient = -((problem.root @ U) * residual) @ Vt / problem.samples
        return value + 0.5 * problem.lambda_b * (b @ b), gradient + problem.lambda_b * b

    b, count = problem.weights / (1 + problem.lambda_b) if problem.bias else np.zeros(problem.K), 1
    if problem.bias and problem.lambda_b > 0:
        limits = {"ftol": 1e-16, "gtol": 1e-13, "maxiter": 200}
        best = minimize(envelope, b, jac=True, method="L-BFGS-B", options=limits)
        b, count = best.x, 1 + best.nfev
    U, s, Vt = decompose(b)
    return (U * np.maximum(s - threshold, 0.0)) @ Vt, count
