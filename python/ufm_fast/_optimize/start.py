"""Where the solver starts when the user gives no point: near the minimum, or at it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from .._exact.symmetric_problem import aligned_factors
from .._model.canonical import CanonicalProblem
from .._model.facts import has_plain_classes
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._runtime.arrays import Array
from .grouped import grouped_factors


class Start(NamedTuple):
    """Square factors (K, K), in the class-aligned gauge, a bias, and the cost in products of K x K matrices."""

    A: Array
    B: Array
    b: Array
    cost: float


def has_start(problem: CanonicalProblem) -> bool:
    """Whether a start near the minimum over all widths is known: for classes that are alike, by the loss."""
    return has_plain_classes(problem.ufm) and type(problem.loss) in _STARTS


def start_of(problem: CanonicalProblem) -> Start:
    """Return that start."""
    return _STARTS[type(problem.loss)](problem)


def _cross_entropy(problem: CanonicalProblem) -> Start:
    if zero_is_optimal(problem):
        zero = np.zeros((problem.K, problem.K))
        return Start(zero, zero, problem.best_bias(zero, np.zeros(problem.K)), 0.0)
    return Start(*grouped_factors(problem))


def _squared_error(problem: CanonicalProblem) -> Start:
    Z, decompositions = squared_error_logits(problem)
    return Start(*aligned_factors(Z), np.zeros(problem.K), 20.0 * (decompositions + 2))


_STARTS: dict[type[Loss], Callable[[CanonicalProblem], Start]] = {CrossEntropy: _cross_entropy, MSE: _squared_error}


def zero_is_optimal(problem: CanonicalProblem) -> bool:
    """Whether W = H = 0 minimises a cross-entropy model: |G|_2 <= tau at Z = 0 and the best bias.

    There the label's entry of row k of G is root_k/N (T_kk - p_k), and no more than one p_k exceeds 1/2: one of the two
    largest classes usually settles it.
    """
    if np.sort(problem.root)[-2] / problem.samples * (0.5 - problem.loss.parameters["label_smoothing"]) > problem.tau:
        return False
    zero = np.zeros((problem.K, problem.K))
    _, G, _ = problem.data_term(zero, problem.best_bias(zero, np.zeros(problem.K)))
    return bool(np.linalg.norm(G, 2) <= problem.tau)


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
