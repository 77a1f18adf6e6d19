"""The global minimum of a model, in closed form where there is one, else by the optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from .._classes import ClassProblem
from ..certificate import Certificate, certify
from ..closed_form import closed_form
from ..model import UFM, Point
from .minimize import minimize


@dataclass(frozen=True)
class Solution:
    """A global minimum: the point, its loss, how it was found ("closed_form" or "optimizer") and its certificate."""

    point: Point
    value: float
    method: str
    certificate: Certificate


def global_minimum(ufm: UFM) -> Solution:
    """Find the global minimum of a model.

    Closed forms exist for balanced classes and for imbalanced squared error without a bias or with an unregularised
    one; there `value` is exact to rounding. Elsewhere `minimize` certifies a relative gap of 1e-10.

    Parameters
    ----------
    ufm : UFM
        The model.

    Returns
    -------
    Solution

    Warns
    -----
    ConvergenceWarning
        If the optimizer could not certify its result, as with ``d < K - 1``, where the value is that of a stationary
        point.
    """
    exact = closed_form(ufm)
    if exact is not None:
        point = ClassProblem(ufm).point(exact.A, exact.B, exact.b)
        return Solution(point, exact.value, "closed_form", certify(ufm, point))
    result = minimize(ufm, tol=1e-10)
    return Solution(result.point, result.fun, "optimizer", result.certificate)
