"""Global minima that can be written down.

All of them are global over every feature dimension that holds their rank, because they solve the convex problem in
the logits with a nuclear norm in place of the two weight decays. Let tau = sqrt(lambda_W lambda_H) and, for n samples
in each of K classes, t = sqrt(n) tau.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .._model.canonical import CanonicalProblem
from .._model.facts import has_plain_classes, is_balanced
from .._model.frames import frame
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._model.model import UFM, rows_of_classes
from .._model.ordinal import Ordinal
from .._runtime import linalg
from .ordinal import ordinal_minimum

_SAME_RATIO = 1e-14  # relative differences of ratios that rounding makes


@dataclass(frozen=True)
class ClosedForm:
    """A global minimum in canonical isometric class coordinates.

    There both factors carry the decay tau: ``A = W / rho`` and ``B[k] = rho * sqrt(n_k) * h_k`` with
    ``rho = (lambda_H / lambda_W)**0.25``, so that ``A.T @ A = B.T @ B``, and class k has the logits
    ``A @ B[k] / sqrt(n_k) + b``.

    Attributes
    ----------
    value : float
        The minimum of the loss, small values to full relative accuracy.
    A, B : ndarray, shapes (K, d) and (M, d)
        Classifier, and class means or features of rows; A is (1, d) in ordinal models.
    b : ndarray, shape (K,)
        Bias; zeros where the model has none.
    rank : int
        Rank of A and of B; the dimensions of the signal.
    """

    value: float
    A: np.ndarray
    B: np.ndarray
    b: np.ndarray
    rank: int


def closed_form(ufm: UFM) -> ClosedForm | None:
    """Give the global minimum in closed form, or None where none is known.

    Known are: balanced cross-entropy with or without label smoothing; balanced squared error; squared error of any
    targets, where the ratio of loss weight and ridge is the same for all rows, without a bias or with an unregularised
    one; and W = H = 0 wherever it is optimal and its bias is explicit. Also ordinal models: not closed, but the convex
    problem in a score a row solved to rounding. The feature dimension must be at least the rank of the minimum.

    Parameters
    ----------
    ufm : UFM
        The model.

    Returns
    -------
    ClosedForm or None

    Notes
    -----
    Costs O(K d), except for imbalanced classes and rows: one singular value decomposition of an M x K matrix.

    The geometry of the balanced cases is that of Zhu et al. (arXiv:2105.02375) for cross-entropy, Zhou et al.
    (arXiv:2210.02192) for label smoothing and Zhou et al. (arXiv:2203.01238) for squared error; the values are those of
    the convex problem at these points.
    """
    form = _FORMS.get(type(ufm.loss_function))
    return None if form is None else form(ufm)


def _cross_entropy(ufm: UFM) -> ClosedForm | None:
    if not has_plain_classes(ufm):
        return None
    return _balanced_cross_entropy(ufm) if is_balanced(ufm) else _zero_cross_entropy(ufm)


def _squared_error(ufm: UFM) -> ClosedForm | None:
    if is_balanced(ufm):
        return _balanced_squared_error(ufm)
    if ufm.bias and ufm.lambda_b > 0:
        return _zero_squared_error(ufm) if has_plain_classes(ufm) else None
    return _shrunk_targets(ufm)


def _ordinal(ufm: UFM) -> ClosedForm:
    A, B, b, value = ordinal_minimum(CanonicalProblem(ufm))
    return ClosedForm(value, A, B, b, int(A.any()))


_FORMS: dict[type[Loss], Callable[[UFM], ClosedForm | None]] = {
    CrossEntropy: _cross_entropy,
    MSE: _squared_error,
    Ordinal: _ordinal,
}


def _balanced_cross_entropy(ufm: UFM) -> ClosedForm | None:
    """Softmax outputs q for every wrong class; the value is the entropy of (q, ..., q, 1 - (K-1) q)."""
    K, n, smoothing = ufm.K, int(ufm.counts[0]), _smoothing(ufm)
    t = math.sqrt(n) * ufm.tau
    excess = 1 - smoothing - K * t  # 1 - K q
    if excess <= 0:
        return _zero(ufm, math.log(K), np.zeros(K))
    if ufm.d < K - 1:
        return None
    q = t + smoothing / K
    others = (K - 1) * q
    value = -others * math.log(q) - (1 - others) * math.log1p(-others)
    factor = frame(K, ufm.d, math.sqrt(n) * math.log1p(excess / q), 0.0)
    return ClosedForm(value, factor, factor.copy(), np.zeros(K), K - 1)


def _balanced_squared_error(ufm: UFM) -> ClosedForm | None:
    """Soft thresholding of the centred targets, by K t, and of their mean, by K t / c."""
    K, n = ufm.K, int(ufm.counts[0])
    t = math.sqrt(n) * ufm.tau
    c = ufm.lambda_b / (1 + ufm.lambda_b) if ufm.bias else 1.0
    lost = min(1.0, K * t)
    mean_lost = min(1.0, K * t / c) if c > 0 else 1.0
    rank = (K - 1) * (lost < 1) + (mean_lost < 1)
    if ufm.d < rank:
        return None
    value = (K - 1) * (lost**2 / (2 * K) + t * (1 - lost)) + c * mean_lost**2 / (2 * K) + t * (1 - mean_lost)
    factor = frame(K, ufm.d, math.sqrt(n) * (1 - lost), math.sqrt(n) * (1 - mean_lost))
    b = np.full(K, mean_lost / (K * (1 + ufm.lambda_b)) if ufm.bias else 0.0)
    return ClosedForm(value, factor, factor.copy(), b, rank)


def _shrunk_targets(ufm: UFM) -> ClosedForm | None:
    """Soft thresholding of the singular values of the targets, with rows times the roots of their ridges.

    An unregularised bias takes their weighted mean away and equals it. None where the ratios of weights and ridges
    differ: then the thresholds would.
    """
    rows = rows_of_classes(ufm)
    ratio = float(rows.weights.sum() / rows.ridges.sum())
    if np.ptp(rows.weights / rows.ridges) > _SAME_RATIO * ratio:
        return None
    root, targets, threshold = np.sqrt(rows.ridges), rows.target_matrix(ufm.K), ufm.tau / ratio
    b = rows.ridges @ targets / rows.ridges.sum() if ufm.bias else np.zeros(ufm.K)
    U, singular, Vt = linalg.svd(root[:, None] * (targets - b), full_matrices=False)
    rounding = max(rows.M, ufm.K) * float(np.finfo(float).eps) * singular[0]
    active = singular > max(threshold, rounding)
    rank = int(active.sum())
    if ufm.d < rank:
        return None
    kept, dropped = singular[active], singular[~active]
    value = float((ufm.tau * (kept - threshold / 2)).sum() + ratio * (dropped**2).sum() / 2)
    A, B = np.zeros((ufm.K, ufm.d)), np.zeros((rows.M, ufm.d))
    A[:, :rank] = Vt[active].T * np.sqrt(kept - threshold)
    B[:, :rank] = U[:, active] * np.sqrt(kept - threshold)
    return ClosedForm(value, A, B, b, rank)


def _zero_cross_entropy(ufm: UFM) -> ClosedForm | None:
    """W = H = 0 without a bias, or with an unregularised one: the logarithms of the (smoothed) class frequencies."""
    if not ufm.bias:
        return _zero_if_optimal(ufm, math.log(ufm.K), np.full(ufm.K, 1 / ufm.K), np.zeros(ufm.K))
    if ufm.lambda_b > 0:
        return None
    smoothing = _smoothing(ufm)
    frequencies = ufm.counts / ufm.N
    output = (1 - smoothing) * frequencies + smoothing / ufm.K
    logs = np.log(output)
    largest = output.argmax()
    logs[largest] = np.log1p(-np.delete(output, largest).sum())
    return _zero_if_optimal(ufm, float(-(output * logs).sum()), frequencies, logs - logs.mean())


def _zero_squared_error(ufm: UFM) -> ClosedForm | None:
    """W = H = 0 with a regularised bias: the class frequencies, shrunk."""
    frequencies = ufm.counts / ufm.N
    spread = (frequencies * ((ufm.N - ufm.counts) / ufm.N)).sum()  # 1 - |frequencies|^2
    b = frequencies / (1 + ufm.lambda_b)
    return _zero_if_optimal(ufm, float((ufm.lambda_b + spread) / (2 * (1 + ufm.lambda_b))), b, b)


def _zero_if_optimal(ufm: UFM, value: float, output: np.ndarray, b: np.ndarray) -> ClosedForm | None:
    """W = H = 0 if the gradient matrix, rows (1 - smoothing) sqrt(n_k)/N (output - e_k), has norm at most tau."""
    scale = np.sqrt(ufm.counts) / ufm.N * (1 - _smoothing(ufm))
    if (scale * (1 - output)).max() > ufm.tau:  # an entry: settles nearly every case without the matrix
        return None
    if linalg.svd(scale[:, None] * (output - np.eye(ufm.K)), compute_uv=False)[0] > ufm.tau:
        return None
    return _zero(ufm, value, b)


def _smoothing(ufm: UFM) -> float:
    """Return how much of a target its loss gives away."""
    return float(ufm.loss_function.parameters.get("label_smoothing", 0.0))


def _zero(ufm: UFM, value: float, b: np.ndarray) -> ClosedForm:
    return ClosedForm(value, np.zeros((ufm.K, ufm.d)), np.zeros((ufm.K, ufm.d)), b, 0)
