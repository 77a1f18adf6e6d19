"""Where the solver starts when the user gives no point: what does not need groups of classes."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from .._model.canonical import ClassProblem
from .objective import Array


def zero_is_optimal(q: ClassProblem) -> bool:
    """Whether W = H = 0 minimises a cross-entropy model: |G|_2 <= tau at Z = 0 and the best bias.

    There the label's entry of row k of G is root_k/N (T_kk - p_k), and no more than one p_k exceeds 1/2: one of the two
    largest classes usually settles it.
    """
    if np.sort(q.root)[-2] / q.N * (0.5 - q.loss.label_smoothing) > q.tau:
        return False
    zero = np.zeros((q.K, q.K))
    _, G, _ = q.data_term(zero, q.best_bias(zero, np.zeros(q.K)))
    return bool(np.linalg.norm(G, 2) <= q.tau)


def squared_error_logits(q: ClassProblem) -> tuple[Array, int]:
    """The optimal Z for squared error and the number of singular value decompositions it took.

    At a fixed bias Z is a soft-thresholded singular value decomposition, so only the bias is left to minimise over: a
    smooth convex function of K variables, the Moreau envelope of the nuclear norm. Its minimiser is known without
    a ridge on the bias.
    """
    threshold = q.N * q.tau

    def decompose(b: Array) -> tuple[Array, Array, Array]:
        U, s, Vt = np.linalg.svd(np.diag(q.root) - np.outer(q.root, b))
        return U, s, Vt

    def envelope(b: Array) -> tuple[float, Array]:
        U, s, Vt = decompose(b)
        residual = np.minimum(s, threshold)
        value = q.tau * (s - residual).sum() + residual @ residual / (2 * q.N)
        gradient = -((q.root @ U) * residual) @ Vt / q.N
        return value + 0.5 * q.lambda_b * (b @ b), gradient + q.lambda_b * b

    b, count = q.weights / (1 + q.lambda_b) if q.bias else np.zeros(q.K), 1
    if q.bias and q.lambda_b > 0:
        limits = {"ftol": 1e-16, "gtol": 1e-13, "maxiter": 200}
        best = minimize(envelope, b, jac=True, method="L-BFGS-B", options=limits)
        b, count = best.x, 1 + best.nfev
    U, s, Vt = decompose(b)
    return (U * np.maximum(s - threshold, 0.0)) @ Vt, count
