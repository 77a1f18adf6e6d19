"""The global minimum of a model: by symmetry reduction or in closed form where possible, else by the optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from .._certify.certificate import Certificate, certify
from .._certify.duals import require_dual
from .._exact.closed_form import closed_form
from .._exact.symmetry import SymmetricPoint, symmetric_minimum
from .._model.canonical import CanonicalProblem
from .._model.model import UFM
from .._model.point import Point
from .._runtime.blas import single_threaded_blas
from .minimize import minimize


@dataclass(frozen=True, eq=False)
class Solution:
    """A global minimum.

    Attributes
    ----------
    value : float
        Its loss.
    method : {"closed_form", "symmetry_reduction", "optimizer"}
        How it was found.
    certificate : Certificate
        Of the point, or of `factored` where there is one (in float64 whatever the model's dtype).
    factored : SymmetricPoint or None
        The minimum of cross-entropy with many classes of equal counts, in a few numbers whatever K and d are.
    point : Point
        Made from `factored` at first use: K x d and M x d arrays.
    """

    value: float
    method: str
    certificate: Certificate
    _found: Point | SymmetricPoint = field(repr=False)

    @property
    def factored(self) -> SymmetricPoint | None:
        """The minimum in a few numbers, where classes of equal counts made that possible."""
        return self._found if isinstance(self._found, SymmetricPoint) else None

    @cached_property
    def point(self) -> Point:
        """The minimum itself, made from `factored` at first use where there is one: K x d and M x d arrays."""
        return self._found.point() if isinstance(self._found, SymmetricPoint) else self._found


@single_threaded_blas()
def global_minimum(ufm: UFM) -> Solution:
    """Find the global minimum of a model.

    Cross-entropy with at most K / 4 distinct class counts is solved by symmetry reduction, for K up to millions; where
    all counts are equal this is the closed form. Squared error has closed forms for balanced classes, and for others
    without a bias or with an unregularised one. Their values are exact to rounding. Elsewhere `minimize` certifies a
    relative gap of 1e-10.

    Parameters
    ----------
    ufm : UFM
        The model.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If the loss is not convex in the logits, where nothing shows that a minimum is global.

    Warns
    -----
    ConvergenceWarning
        If the optimizer could not certify its result, as with ``d < K - 1``, where the value is that of a stationary
        point.
    """
    require_dual(ufm)
    reduced = symmetric_minimum(ufm)
    if reduced is not None:
        symmetric, certificate = reduced
        explicit = len(symmetric.classes) == 1 or symmetric.rank == 0
        return Solution(certificate.loss, "closed_form" if explicit else "symmetry_reduction", certificate, symmetric)
    exact = closed_form(ufm)
    if exact is not None:
        point = CanonicalProblem(ufm).point(exact.A, exact.B, exact.b)
        return Solution(exact.value, "closed_form", certify(ufm, point), point)
    result = minimize(ufm, tol=1e-10)
    return Solution(result.fun, "optimizer", result.certificate, result.point)
