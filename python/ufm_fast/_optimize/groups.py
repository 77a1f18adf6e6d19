"""The minimum of cross-entropy from its problem of groups of exchangeable classes."""

from __future__ import annotations

import numpy as np

from .._certify.certificate import Certificate, certificate_of
from .._certify.duals import dual_of
from .._exact.groups import Groups, groups_of
from .._exact.symmetry import SymmetricPoint, point_of_classes
from .._model.canonical import CanonicalProblem
from .._model.grouped import GroupedCrossEntropy
from .._model.model import UFM
from .._numerics.gram_spectra import leading_singular_pair
from .._numerics.newton import newton
from .._runtime.arrays import Array
from .._runtime.blas import product
from .._runtime.memory import require_memory
from .bounds import Bounds
from .factored_objective import FactoredObjective
from .factors import aligned_factors, fitted, of_least_rank
from .group_start import Interpolation, alone, merged_similar
from .lbfgs import Descent
from .metrics import PairMetric
from .objective import Objective, State
from .record import Run
from .tolerance import smallest_tolerance
from .work import Work

FEW = 96  # groups whose minimum is sought from factors far from it
_EXACT = 40  # groups whose minimum is found to rounding
_FEW_TOLERANCE = 1e-9
_FEW_EVALUATIONS, _MOST_EVALUATIONS = 300, 2000
_STATIONARY = 1e-13  # relative gradient
_NEGLIGIBLE, _SMALL = 1e-12, 1e-6  # singular values of scores beside the largest: of exact minima, and of others


class GroupedProblem:
    """The canonical problem of the groups of a model of classes, and the way back to these.

    Attributes
    ----------
    ufm : UFM
        The model of classes.
    groups : Groups
    group : ndarray of int, shape (K,)
        Group of each class.
    problem : CanonicalProblem
        Of `groups.model(ufm)`.
    """

    def __init__(self, ufm: UFM) -> None:
        self.ufm = ufm
        self.groups, self.group = groups_of(ufm)
        self.problem = CanonicalProblem(self.groups.model(ufm))

    def symmetric_point(self, A: Array, B: Array, b: Array, G: Array) -> SymmetricPoint:
        """Return a point of this problem as one of the model of classes; G is its gradient matrix."""
        contrast = self.groups.contrasts(self.problem, G)
        return point_of_classes(self.ufm, self.groups, self.group, contrast, A, B, b)

    def to_model(self, d: int, state: State) -> tuple[Array, Array, Array]:
        """Return the factors and bias of a state with a row a class and d columns."""
        point = self.symmetric_point(state.A, state.B, state.b, state.G)
        return *fitted(*point.factors(), d), point.bias[self.group]


def near_minimum(grouped: GroupedProblem, tol: float) -> tuple[Array, Array, Array, float]:
    """Return square factors and a bias of the problem of groups, and the cost in products of two m x m matrices.

    The minimum, to the relative gap `tol` or exactly, for few groups; near it for many, unless their ridges do not tell
    them apart.
    """
    problem, groups, ufm = grouped.problem, grouped.groups, grouped.ufm
    m, smoothing = problem.K, problem.loss.parameters["label_smoothing"]
    if zero_is_optimal(problem):
        zero = np.zeros((m, m))
        return zero, zero, problem.best_bias(zero, np.zeros(m)), 0.0
    merged = None
    if m > FEW:
        merged = merged_similar(groups, 2 * np.log((1 - smoothing) / groups.miss(ufm.tau)))
        if merged is None:
            return *settled(problem, *alone(groups, ufm.tau, smoothing), np.zeros(m)), 0.0
    few = groups if merged is None else merged[0]
    small = problem if merged is None else CanonicalProblem(few.model(ufm))
    state, products = _minimum_of_few(few, small, min(tol, _FEW_TOLERANCE))
    if merged is None:
        return state.A, state.B, state.b, products
    A, B = aligned_factors(state.B @ state.A.T)
    contrast = few.contrasts(small, state.G)
    factors = Interpolation(few, groups, ufm.tau, smoothing).factors(A, B, contrast, state.b)
    return *factors, products * (small.K / m) ** 3


def _minimum_of_few(groups: Groups, problem: CanonicalProblem, tol: float) -> tuple[State, float]:
    """Minimise from where every class has the margin that it would have on its own; return the cost too.

    By quasi-Newton steps; to the end, or if these are many, by Newton's method.
    """
    state, run = descended_from_alone(groups, problem, tol, _FEW_EVALUATIONS)
    if problem.K > _EXACT and not run.work.exhausted:
        return state, run.work.products
    point, products = stationary(problem, state, _STATIONARY)
    return Objective(problem, problem.K, run.work).at(*point), run.work.products + products


def descended_from_alone(groups: Groups, problem: CanonicalProblem, tol: float, evaluations: int) -> tuple[State, Run]:
    """Minimise from where every class has the margin that it would have on its own."""
    A, B = alone(groups, problem.tau, problem.loss.parameters["label_smoothing"])
    return _descended(problem, *settled(problem, A, B, np.zeros(problem.K)), tol, evaluations)


def _descended(
    problem: CanonicalProblem, A: Array, B: Array, b: Array, tol: float, evaluations: int
) -> tuple[State, Run]:
    """Minimise from square factors."""
    work = Work(problem.K, problem.K, evaluations)
    objective, run = Objective(problem, problem.K, work), Run(problem, tol, work)
    bounds = Bounds(problem, tol, 0.0, first=tol)
    descent = Descent(objective, bounds, run, lambda state: (state.A, state.B, state.b))
    return descent.iterate(objective.at(A, B, b), PairMetric(objective))[0], run


def stationary(problem: CanonicalProblem, state: State, tolerance: float) -> tuple[tuple[Array, Array, Array], float]:
    """Go on by Newton's method to this relative gradient or until rounding ends it; return the cost in products too."""
    function = FactoredObjective(problem.ufm, problem.K)
    x, _ = newton(function, function.layout.pack(*settled(problem, state.A, state.B, state.b)), tolerance)
    return function.layout.unpack(x), function.products


def settled(problem: CanonicalProblem, A: Array, B: Array, b: Array) -> tuple[Array, Array, Array]:
    """Put the bias and what of the features acts as one at their best, and balance the factors again.

    Else a descent follows the curved valley between the two.
    """
    B, b = problem.polish(A, B, b)
    return *aligned_factors(B @ A.T), b


def zero_is_optimal(problem: CanonicalProblem) -> bool:
    """Whether W = H = 0 minimises a problem of groups: no differences within one, and |G|_2 <= tau at the best bias."""
    loss = problem.loss
    assert isinstance(loss, GroupedCrossEntropy)
    if loss.excess.max() > 0:
        return False
    zero = np.zeros((problem.K, problem.K))
    _, G, _ = problem.data_term(zero, problem.best_bias(zero, np.zeros(problem.K)))
    if max(np.linalg.norm(G, axis=axis).max() for axis in (0, 1)) > problem.tau:
        return False
    return leading_singular_pair(G, problem.workers)[0] <= problem.tau


def grouped_minimum(ufm: UFM, tol: float) -> tuple[SymmetricPoint, Certificate, float, int]:
    """Find the minimum over all widths to a relative gap of `tol`, or what rounding allows; that of few groups exactly.

    Return also the gap that was asked for, and the evaluations on all groups after a start from few. Time and memory
    O(K + m^3) for m groups.
    """
    grouped = GroupedProblem(ufm)
    problem, groups = grouped.problem, grouped.groups
    require_memory("global_minimum", 33 * problem.K**2, K=ufm.K, groups=problem.K)
    tol = max(tol, smallest_tolerance(problem.K))
    A, B, b, _ = near_minimum(grouped, tol)
    zero, exact, bound, evaluations = not A.any(), problem.K <= _EXACT, 0.0, 0
    if not (zero or exact):
        state, run = _descended(problem, A, B, b, tol, _MOST_EVALUATIONS)
        A, B, b, bound, evaluations = state.A, state.B, state.b, run.lower_bound, run.work.evaluations
    if zero:
        A, B = A[:, :0], B[:, :0]
    elif exact or ufm.d < ufm.K:
        _, G, _ = problem.data_term(product(B, A.T, problem.workers), b)
        contrast = float(groups.contrasts(problem, G).max())
        A, B = of_least_rank(A, B, _NEGLIGIBLE if exact else _SMALL, contrast)
    Z = product(B, A.T, problem.workers)
    value, G, _ = problem.data_term(Z, b)
    norm = leading_singular_pair(G, problem.workers)[0]
    if exact or zero:
        dual = dual_of(problem)
        bound = dual.scaled_bound(G, norm)
        bound = bound if zero else max(bound, dual.prox_bound(Z, G))
    loss = value + problem.penalty(A, B, b)
    norm = max(norm, groups.largest_difference(problem.tau, problem.loss.parameters["label_smoothing"]))
    certificate = certificate_of(loss, problem.rounding(A, B, b, loss), bound, norm, problem.tau)
    return grouped.symmetric_point(A, B, b, G), certificate, tol, evaluations
