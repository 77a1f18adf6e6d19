"""Where the solver starts when the user gives no point: near the minimum, or at it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from .._exact.groups import is_grouped
from .._model.canonical import CanonicalProblem
from .._model.facts import has_plain_classes
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._runtime import linalg
from .._runtime.arrays import Array
from .factors import aligned_factors, fitted
from .groups import GroupedProblem, near_minimum
from .record import ToModel

_NEWTON_STEPS, _ROUNDING = 50, 1e-15


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
    a ridge on the bias; else Newton's method finds it to rounding, whatever the ridge is beside all other curvature.
    """
    threshold, root = problem.samples * problem.tau, problem.root

    def envelope(b: Array) -> tuple[float, Array, tuple[Array, Array, Array]]:
        U, s, Vt = linalg.svd(np.diag(root) - np.outer(root, b))
        residual = np.minimum(s, threshold)
        value = problem.tau * (s - residual).sum() + residual @ residual / (2 * problem.samples)
        gradient = -((root @ U) * residual) @ Vt / problem.samples + problem.lambda_b * b
        return float(value + 0.5 * problem.lambda_b * (b @ b)), gradient, (U, s, Vt)

    b, count = problem.weights / (1 + problem.lambda_b) if problem.bias else np.zeros(problem.K), 1
    value, gradient, (U, s, Vt) = envelope(b)
    for _ in range(_NEWTON_STEPS if problem.bias and problem.lambda_b > 0 else 0):
        hessian = _envelope_hessian(root @ U, s, threshold) / problem.samples
        hessian[np.diag_indices(problem.K)] += problem.lambda_b
        step = -linalg.solve(hessian, Vt @ gradient) @ Vt
        decrease, length = -0.5 * float(gradient @ step), 1.0
        while True:
            new_value, new_gradient, new = envelope(b + length * step)
            count += 1
            if new_value <= value * (1 + _ROUNDING) - 1e-4 * length * decrease or length < 1e-3:
                break
            length /= 2
        b, value, gradient, (U, s, Vt) = b + length * step, new_value, new_gradient, new
        if decrease <= _ROUNDING * value:  # that step was the last, and it squared what was left of the gradient
            break
    return (U * np.maximum(s - threshold, 0.0)) @ Vt, count


def _envelope_hessian(u: Array, s: Array, threshold: float) -> Array:
    """Second derivative of sum(min(s^2, (2 s - t) t)) / 2 along u v^T, a form in v, where the matrix is diag(s).

    Divided differences of the clipped singular values make it (Lewis and Sendov, SIAM J. Matrix Anal. 23, 2001): those
    of min(s, t) for what is symmetric in u v^T, and sums over sums for what is antisymmetric.
    """
    clipped = np.minimum(s, threshold)
    apart = np.subtract.outer(s, s)
    same = np.logical_and.outer(s < threshold, s < threshold)
    symmetric = np.where(apart == 0, same, np.subtract.outer(clipped, clipped) / np.where(apart == 0, 1.0, apart))
    total = np.add.outer(s, s)
    antisymmetric = np.where(same, 1.0, np.add.outer(clipped, clipped) / np.where(total == 0, 1.0, total))
    hessian: Array = 0.5 * np.outer(u, u) * (symmetric - antisymmetric)
    hessian[np.diag_indices(len(s))] += 0.5 * (u * u) @ (symmetric + antisymmetric)
    return hessian
