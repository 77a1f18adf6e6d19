"""Facts about a model that several rooms need, each in one place."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .._runtime import linalg
from .._runtime.arguments import shown
from .model import UFM


def checked_model(ufm: object) -> UFM:
    """Return ufm if it is a model, otherwise raise."""
    if not isinstance(ufm, UFM):
        raise TypeError(f"ufm must be a UFM, not {shown(ufm)}")
    return ufm


def has_plain_classes(ufm: UFM) -> bool:
    """Whether the model has classes that differ in nothing but their numbers of samples, for the loss as well."""
    return ufm.counts is not None and ufm.weights is None and ufm.loss_function.treats_classes_alike


def is_balanced(ufm: UFM) -> bool:
    """Whether the model has plain classes, all with as many samples."""
    return has_plain_classes(ufm) and bool((ufm.counts == ufm.counts[0]).all())


def curvature_unit(ufm: UFM) -> float:
    """Return the harmonic mean of lambda_W and lambda_H, the unit in which curvatures count."""
    return 2 * ufm.lambda_W * ufm.lambda_H / (ufm.lambda_W + ufm.lambda_H)


def lower_branch(ufm: UFM, s: float) -> float:
    """Return the lower eigenvalue of [[lambda_W, s], [s, lambda_H]], without cancellation."""
    mean, half = (ufm.lambda_W + ufm.lambda_H) / 2, (ufm.lambda_W - ufm.lambda_H) / 2
    return (ufm.tau - s) * (ufm.tau + s) / (mean + math.hypot(half, s))


class Branch(NamedTuple):
    """An eigenvalue of [[lambda_W, s], [s, lambda_H]], and its unit eigenvector."""

    value: float
    along_W: float
    along_H: float


def branches_of(ufm: UFM, s: float) -> list[Branch]:
    """Return both, ascending."""
    values, vectors = linalg.eigh(np.array([[ufm.lambda_W, s], [s, ufm.lambda_H]]))
    return [Branch(float(values[i]), float(vectors[0, i]), float(vectors[1, i])) for i in range(2)]


def largest_rank(ufm: UFM) -> int:
    """Return the largest rank that W and H can have at a critical point of a wide model: that of the gradient matrix.

    It has a column for each logit, one of which depends on the others where there is a direction of the logits that the
    loss does not feel; and a row for each class or row of the data, one of which depends on the others where the bias
    has no decay.
    """
    felt = ufm.loss_function.invariant_direction(ufm.K) is None
    rows = ufm.M if ufm.counts is None else ufm.K
    return min(ufm.layout.K - (not felt), rows - (ufm.bias and ufm.lambda_b == 0))


def covered(ufm: UFM) -> bool:
    """Whether every critical point of a model is known to be a global minimum or a strict saddle.

    So it is for a convex loss with d no less than the largest rank of a critical point, K or K - 1 for classes (Gu and
    Shen 2024, arXiv:2407.10702, for d = K).
    """
    return ufm.loss_function.convex and ufm.d >= largest_rank(ufm)
