"""The global minimum of cross-entropy with classes of equal counts, from a problem as small as the number of counts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert

from .._certify.certificate import Certificate, certificate_of
from .._model.canonical import CanonicalProblem
from .._model.facts import has_plain_classes
from .._model.losses import CrossEntropy
from .._model.model import UFM
from .._model.point import Point
from .._numerics.newton import newton, quasi_newton_descent
from .._runtime.arrays import Array
from .symmetric_dual import lower_bound, spectral_norm
from .symmetric_problem import SymmetricProblem, Types

_TOLERANCE = 1e-13
_DESCENT = 1e-4  # at which Newton's method takes over from a given start
_NEGLIGIBLE = 1e-12  # a singular value relative to the largest that counts as zero
_CERTIFIED = 1e-8


@dataclass(frozen=True, eq=False)
class SymmetricPoint:
    """A point that treats classes of a group alike, in a few numbers: what a K x d array would hold, unexpanded.

    The groups are m in number, group i with ``classes[i]`` classes in blocks of ``size[i]`` that share all parameters.
    In canonical class coordinates ``A = W / rho``, ``B_k = rho sqrt(n_k) h_k`` with
    ``rho = (lambda_H / lambda_W)^(1/4)``, the scores ``B A^T`` are ``contrast[i]`` on differences between blocks of
    group i, and ``mean_B @ mean_A.T`` on the normalised indicators of the groups.

    Attributes
    ----------
    ufm : UFM
    group : ndarray of int, shape (K,)
        Group of each class.
    block : ndarray of int, shape (K,)
        Block of each class within its group.
    classes, size : ndarray, shape (m,)
    contrast : ndarray, shape (m,)
    mean_A, mean_B : ndarray, shape (m, r)
    bias : ndarray, shape (m,)
        Bias of the classes of each group.
    """

    ufm: UFM
    group: NDArray[np.intp]
    block: NDArray[np.intp]
    classes: Array
    size: Array
    contrast: Array
    mean_A: Array
    mean_B: Array
    bias: Array

    @property
    def rank(self) -> int:
        """Rank of W and H."""
        return int(self._contrast_ranks().sum() + self.mean_A.shape[1])

    def point(self) -> Point:
        """Expand to a point of the model: K x d and M x d arrays.

        Raises
        ------
        ValueError
            If the model's d is less than the rank.
        """
        if self.rank > self.ufm.d:
            raise ValueError(f"a point of rank {self.rank} does not fit into a model with d = {self.ufm.d}")
        A, B = self.factors()
        missing = ((0, 0), (0, self.ufm.d - self.rank))
        return CanonicalProblem(self.ufm).point(np.pad(A, missing), np.pad(B, missing), self.bias[self.group])

    def factors(self) -> tuple[Array, Array]:
        """Return A and B in canonical class coordinates with as many columns as their rank."""
        A, B = np.zeros((self.ufm.K, self.rank)), np.zeros((self.ufm.K, self.rank))
        column = 0
        for i, width in enumerate(self._contrast_ranks()):
            if width > 0:
                members = np.flatnonzero(self.group == i)
                frame = helmert(width + 1).T * np.sqrt(self.contrast[i] / self.size[i])
                A[members, column : column + width] = B[members, column : column + width] = frame[self.block[members]]
                column += width
        unit = 1 / np.sqrt(self.classes)[:, None]
        A[:, column:], B[:, column:] = (self.mean_A * unit)[self.group], (self.mean_B * unit)[self.group]
        return A, B

    def logits(self, k: int) -> Array:
        """Return the K logits of the samples of class k, without expanding the point."""
        i = self.group[k]
        same = self.group == i
        scores = (self.mean_A @ self.mean_B[i] / np.sqrt(self.classes * self.classes[i]))[self.group]
        scores[same] -= self.contrast[i] / self.classes[i]
        scores[same & (self.block == self.block[k])] += self.contrast[i] / self.size[i]
        logits: Array = scores / np.sqrt(self.ufm.counts[k]) + self.bias[self.group]
        return logits

    def _contrast_ranks(self) -> NDArray[np.int64]:
        blocks = np.rint(self.classes / self.size).astype(np.int64)
        ranks: NDArray[np.int64] = (blocks - 1) * (self.contrast > 0)
        return ranks


def symmetric_critical_point(
    ufm: UFM,
    group: NDArray[Any],
    block: NDArray[Any],
    types: Types,
    start: tuple[Array, Array, Array] | None = None,
) -> tuple[SymmetricPoint, SymmetricProblem, float]:
    """Minimise cross-entropy over the points that are symmetric within groups and equal within blocks.

    From a start (A, B, sqrt(M) b) with fewer than m columns, over points of that rank without contrasts.

    Returns
    -------
    SymmetricPoint
        A critical point of the model (symmetric criticality); its global minimum if all blocks have one class.
    SymmetricProblem
    float
        Relative gradient norm.
    """
    problem = SymmetricProblem(
        types,
        tau=ufm.tau,
        smoothing=ufm.loss_function.parameters["label_smoothing"],
        lambda_b=ufm.lambda_b,
        bias=ufm.bias,
        columns=None if start is None else start[0].shape[1],
    )
    x = (
        problem.start()
        if start is None
        else quasi_newton_descent(problem, problem.join(np.zeros(problem.m), *start), _DESCENT)
    )
    x, error = newton(problem, x, _TOLERANCE)
    a, A, B, b = problem.split(x)
    contrast = problem.contrasts(a)
    U, s, Vt = np.linalg.svd(B @ A.T)
    negligible = _NEGLIGIBLE * max(contrast.max(), s[0], (problem.types.samples.mean()) ** 0.5)
    kept = s > negligible
    root = np.sqrt(s[kept])
    point = SymmetricPoint(
        ufm,
        group,
        block,
        problem.M,
        types.size,
        np.where((contrast > negligible) & (types.blocks > 1), contrast, 0.0),
        Vt[kept].T * root,
        U[:, kept] * root,
        b / np.sqrt(problem.M),
    )
    return point, problem, error


def symmetric_minimum(ufm: UFM) -> tuple[SymmetricPoint, Certificate] | None:
    """Find the global minimum of cross-entropy by symmetry reduction.

    Classes with equal counts are exchangeable and the equivalent problem in the logits is convex, so with m distinct
    counts the minimum has m scores of a class for itself and m^2 for others. Newton's method finds them, whatever K is.

    Parameters
    ----------
    ufm : UFM

    Returns
    -------
    SymmetricPoint
    Certificate
        Of this point, before it is expanded and rounded to the dtype of the model; from the dual problem, restricted
        likewise.
    None
        Instead, if the loss is not cross-entropy or the rows are no classes, if
        there are more than K / 4 distinct counts, if the rank of the
        minimum exceeds d, or if the relative gap is not certified to 1e-8.

    Notes
    -----
    Time and memory O(K + m^3): with 10 distinct counts a tenth of a second, up to K in the millions.
    """
    if not has_plain_classes(ufm) or type(ufm.loss_function) is not CrossEntropy:
        return None
    samples, group = np.unique(ufm.counts, return_inverse=True)
    if len(samples) > max(1, ufm.K // 4):
        return None
    M = np.bincount(group)
    order = np.argsort(group, kind="stable")
    block = np.empty(ufm.K, dtype=np.intp)
    block[order] = np.arange(ufm.K) - np.repeat(np.cumsum(M) - M, M)
    types = Types(samples.astype(float), M.astype(float), np.ones(len(M)))
    point, problem, _ = symmetric_critical_point(ufm, group, block, types)
    b = point.bias * np.sqrt(problem.M)
    value, flow, _ = problem.flow(point.contrast, point.mean_B @ point.mean_A.T, b)
    value += ufm.tau * float((M - 1) @ point.contrast + np.vdot(point.mean_A, point.mean_A))
    value += 0.5 * ufm.lambda_b * float(b @ b)
    rounding, norm = _rounding(ufm, problem, point, value), spectral_norm(problem, flow)
    certificate = certificate_of(value, rounding, lower_bound(problem, flow), norm, ufm.tau)
    return (point, certificate) if certificate.is_global(_CERTIFIED) and point.rank <= ufm.d else None


def _rounding(ufm: UFM, problem: SymmetricProblem, point: SymmetricPoint, value: float) -> float:
    """Bound the rounding error of a loss computed from a point's logits: see `CanonicalProblem.rounding`."""
    sizes = np.abs(point.mean_B) @ np.abs(point.mean_A).T * problem.in_mean + np.abs(point.bias)
    reach = float(sizes.max() + (point.contrast * problem.in_own).max()) + math.log(ufm.K)
    unit = np.finfo(float).eps / 2
    return ufm.loss_function.change(value, unit * (problem.m + 16) * reach, ufm.K) + unit * (2 * problem.m + 64) * value
