"""The minimum of cross-entropy with many distinct class counts, interpolated between the nodes of `CountPanels`."""

from __future__ import annotations

import numpy as np

from .._certify.certificate import Certificate, certificate_of
from .._certify.grouped import GroupedDual
from .._exact.count_panels import CountPanels
from .._exact.groups import Groups, is_grouped
from .._exact.interpolated_dual import InterpolatedDual
from .._exact.interpolated_point import InterpolatedPoint
from .._model.canonical import CanonicalProblem
from .._model.facts import has_plain_classes
from .._model.model import UFM
from .._numerics.gram_spectra import leading_singular_pair
from .._runtime import linalg
from .._runtime.arrays import Array
from .._runtime.blas import product
from .factors import aligned_factors
from .groups import descended_from_alone, stationary

_TOLERANCE, _EVALUATIONS = 1e-9, 1000  # of quasi-Newton steps at the nodes
_STATIONARY = 1e-7  # relative gradient, then, by Newton's method


def interpolated_minimum(ufm: UFM) -> tuple[InterpolatedPoint, Certificate] | None:
    """Find the minimum of cross-entropy over all widths, for many thousands of distinct counts.

    The solver works on the nodes of the counts, about 100 whatever there are; its result is interpolated, and the loss
    and a dual point evaluated, at all counts. The relative gap is usually 1e-11 to 1e-10.

    Parameters
    ----------
    ufm : UFM

    Returns
    -------
    InterpolatedPoint
    Certificate
        Of this point; its `spectral_norm` is that at the nodes.
    None
        Instead, if the loss is not cross-entropy, if classes differ in more than their counts, or in nothing.

    Notes
    -----
    Time O(K + m^2) and memory O(K + m) for m distinct counts.
    """
    if not (has_plain_classes(ufm) and is_grouped(ufm)) or (ufm.counts == ufm.counts[0]).all():
        return None
    nodes = NodesProblem(ufm)
    Z, b = nodes.minimum()
    bound = nodes.dual.lower_bound(nodes.dual_mean_part(Z, b))
    point = nodes.point(Z, b)
    loss, rounding = point.loss()
    return point, certificate_of(loss, rounding, bound, nodes.norm(Z, b), ufm.tau)


class NodesProblem:
    """The canonical problem of groups of classes at the nodes of a model's counts, and the way back to these.

    Attributes
    ----------
    ufm : UFM
        The model of classes.
    group : ndarray of int, shape (K,)
        Place of the count of each class.
    panels : CountPanels
    groups : Groups
        The nodes.
    problem : CanonicalProblem
        Of `groups.model(ufm)`.
    dual : InterpolatedDual
    """

    def __init__(self, ufm: UFM) -> None:
        self.ufm = ufm
        counts, self.group = np.unique(ufm.counts, return_inverse=True)
        self.smoothing = ufm.loss_function.parameters["label_smoothing"]
        largest_given_up = (ufm.N * ufm.tau / (1 - self.smoothing)) ** 2
        classes = np.bincount(self.group)
        self.panels = CountPanels(counts.astype(np.float64), classes.astype(np.float64), largest_given_up)
        n, M = self.panels.node_samples, self.panels.node_classes
        one = np.ones_like(M)
        self.groups = Groups(n, n / ufm.N, one, 0 * one, M, one)
        self.problem = CanonicalProblem(self.groups.model(ufm))
        self.dual = InterpolatedDual(ufm, self.panels)

    def minimum(self) -> tuple[Array, Array]:
        """Return scores and the best bias, so exact that the contrasts, told by small probabilities, are smooth."""
        problem = self.problem
        state, _ = descended_from_alone(self.groups, problem, _TOLERANCE, _EVALUATIONS)
        (A, B, b), _ = stationary(problem, state, _STATIONARY)
        B, b = problem.polish(A, B, b)
        return product(B, A.T, problem.workers), b

    def point(self, Z: Array, b: Array) -> InterpolatedPoint:
        """Interpolate the factors of scores at the nodes less the roots of the contrasts, these and the bias."""
        _, G, _ = self.problem.data_term(Z, b)
        root, M = np.sqrt(self.groups.contrasts(self.problem, G)), self.groups.classes
        root[: self.panels.collapsed_nodes] = 0.0  # which is not so by rounding where a count is n* itself
        kernel_A, kernel_B = ((X - np.diag(root)) / np.sqrt(np.outer(M, M)) for X in aligned_factors(Z))
        root, bias = (self.panels.interpolate(values) for values in (root, b / np.sqrt(M)))
        return InterpolatedPoint(self.ufm, self.group, self.panels, root, kernel_A, kernel_B, bias)

    def dual_mean_part(self, Z: Array, b: Array) -> Array:
        """Map the gradient matrix into the dual ball, by a proximal-gradient step as in `Dual.prox_bound`."""
        dual = self.dual
        value, G, _ = self.problem.data_term(Z, b)
        step = GroupedDual(self.problem).mean_curvature(G)
        U, s, Vt = linalg.svd(dual.balanced(G, b, value) - step * Z)
        return dual.balanced((U * np.minimum(s, dual.tau)) @ Vt, b, value)

    def norm(self, Z: Array, b: Array) -> float:
        """|G|_2 at the nodes."""
        _, G, _ = self.problem.data_term(Z, b)
        between = leading_singular_pair(G, self.problem.workers)[0]
        return max(between, self.groups.largest_difference(self.problem.tau, self.smoothing))
