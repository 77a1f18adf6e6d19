"""The minimum of ordinal models: one logit, so a convex problem with a number a row."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .._certify.ordinal import ordinal_problem
from .._model.canonical import CanonicalProblem
from .._numerics.ordinal_problem import minimum
from .._runtime.arrays import Array


class OrdinalMinimum(NamedTuple):
    """A minimum over all widths in the coordinates of `CanonicalProblem`: A (1, d), B (M, d), b, and its value."""

    A: Array
    B: Array
    b: Array
    value: float


def ordinal_minimum(problem: CanonicalProblem) -> OrdinalMinimum:
    """Minimise a problem with an ordinal loss to rounding, by Newton's method on scores and bias.

    The factors of scores Z (M, 1) with the least penalty are A = |Z|^(1/2) e and B = Z e / |Z|^(1/2), e the first unit
    vector of the feature space: any width holds them.
    """
    scores = ordinal_problem(problem)
    merged, index = scores.merged()
    found = minimum(merged)
    Z = problem.root * found.z[index]
    norm = float(np.linalg.norm(Z))
    A, B = np.zeros((1, problem.d)), np.zeros((problem.M, problem.d))
    if norm > 0:
        A[0, 0], B[:, 0] = math.sqrt(norm), Z / math.sqrt(norm)
    return OrdinalMinimum(A, B, found.b, merged.value(found.z, found.b))
