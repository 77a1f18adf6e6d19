"""The global minimum of a model: by symmetry reduction or in closed form where possible, else by the optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .._certify.certificate import Certificate, certify
from .._certify.duals import require_dual
from .._exact.closed_form import closed_form
from .._exact.groups import is_grouped
from .._exact.interpolated_point import InterpolatedPoint
from .._exact.symmetry import SymmetricPoint
from .._model.canonical import CanonicalProblem
from .._model.facts import checked_model, is_balanced
from .._model.model import UFM
from .._model.point import Point
from .._runtime.arguments import real_number
from .._runtime.blas import single_threaded_blas
from .._runtime.memory import require_memory
from .._runtime.warnings import warn
from .groups import FEW, grouped_minimum
from .interpolated import interpolated_minimum
from .minimize import minimize
from .tolerance import tolerance_of


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
        Of the point, or of `factored` where there is one (in float64 whatever the model's dtype). Of an interpolated
        point, `spectral_norm` is that at the nodes, about 1e-5 below |G|_2.
    evaluations : int
        Of loss and gradient by the optimizer, on the groups of classes where there are any; 0 if the value is exact, 1
        for an interpolated point.
    factored : SymmetricPoint, InterpolatedPoint or None
        The minimum of cross-entropy of classes, in a few numbers whatever K and d are; with more than 96 distinct
        counts, if classes differ in nothing else, interpolated between nodes of these.
    point : Point
        Made from `factored` at first use: K x d and M x d arrays.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> n = uf.counts("cifar100-lt", imbalance=100)
    >>> ufm = uf.UFM(100, 100, n, lambda_W=5e-4, lambda_H=5e-4 / n.mean(), lambda_b=1e-2)
    >>> solution = uf.global_minimum(ufm)
    >>> f"{solution.value:.6f}", solution.point.W.shape
    ('0.356514', (100, 100))
    """

    value: float
    method: str
    certificate: Certificate
    evaluations: int
    _found: Point | SymmetricPoint | InterpolatedPoint = field(repr=False)

    @property
    def factored(self) -> SymmetricPoint | InterpolatedPoint | None:
        """The minimum in a few numbers, where classes of equal counts made that possible.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(1000, 1000, [500] * 400 + [5] * 600, lambda_W=1e-4, lambda_H=1e-6)
        >>> uf.global_minimum(ufm).factored.rank
        999
        """
        return None if isinstance(self._found, Point) else self._found

    @cached_property
    def point(self) -> Point:
        """The minimum itself, made from `factored` at first use where there is one: K x d and M x d arrays.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> uf.global_minimum(uf.UFM(4, 3, lambda_W=1e-3, lambda_H=1e-3)).point.W.shape
        (4, 3)
        """
        return self._found if isinstance(self._found, Point) else self._found.point()


@single_threaded_blas()
def global_minimum(ufm: UFM, *, tol: float = 1e-10) -> Solution:
    """Find the global minimum of a model.

    Cross-entropy of classes is solved by symmetry reduction, for K up to millions: classes that differ in nothing (not
    in their counts, nor in weights, scales or shifts, if there are any; margins are not known to it) have one logit for
    all, and the solver works on their m groups. With up to 40 groups its value is exact to rounding; where all classes
    are alike it is the closed form. Where more than 96 groups differ in their counts alone, it works on about 100 nodes
    of the counts, whatever their number. Squared error has closed forms for balanced classes, and for others without a
    bias or with an unregularised one, exact to rounding too. Elsewhere `minimize` does the work.

    Parameters
    ----------
    ufm : UFM
        The model.
    tol : float, default 1e-10
        Largest certified ``(loss - lower_bound) / |loss|`` that counts as success, where the value is not exact; what
        rounding allows (about 1e-15 times the number of groups, classes or rows) if that is more.

    Returns
    -------
    Solution

    Raises
    ------
    ValueError
        If the loss is not convex in the logits, where nothing shows that a minimum is global.
    MemoryError
        If there is less memory than about 33 m x m arrays for m groups, or than `minimize` asks for.

    Warns
    -----
    ConvergenceWarning
        If the optimizer could not certify its result, as with ``d < K - 1``, where the value is that of a stationary
        point.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> solution = uf.global_minimum(ufm)
    >>> solution.method, solution.certificate.is_global(1e-10)
    ('closed_form', True)
    """
    require_dual(checked_model(ufm))
    tol = real_number(tol, "tol", least=0, below=1)
    few = ufm.counts is None or len(np.unique(ufm.counts)) <= FEW
    interpolated = None if few else interpolated_minimum(ufm)
    if interpolated is not None and interpolated[1].is_global(tol) and interpolated[0].rank <= ufm.d:
        return Solution(interpolated[1].loss, "symmetry_reduction", interpolated[1], 1, interpolated[0])
    if is_grouped(ufm):
        symmetric, certificate, reached, evaluations = grouped_minimum(ufm, tol)
        if symmetric.rank <= ufm.d:
            explicit = is_balanced(ufm) or symmetric.rank == 0
            if not certificate.is_global(reached):
                warn(f"not certified: relative gap {certificate.relative_gap:.2e} > {reached:g}")
            method = "closed_form" if explicit else "symmetry_reduction"
            return Solution(certificate.loss, method, certificate, evaluations, symmetric)
    K, M, d = ufm.layout.K, ufm.M if ufm.collapse_classes else ufm.K, ufm.d
    require_memory("global_minimum", 14 * M * K + 4 * (M + K) * d, K=ufm.K, M=M, d=d)  # at least, whatever follows
    exact = closed_form(ufm)
    if exact is not None:
        point = CanonicalProblem(ufm).point(exact.A, exact.B, exact.b)
        return Solution(exact.value, "closed_form", certify(ufm, point), 0, point)
    result = minimize(ufm, tol=max(tol, tolerance_of(ufm)))
    return Solution(result.fun, "optimizer", result.certificate, result.nfev, result.point)
