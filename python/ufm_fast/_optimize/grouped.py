"""The solver's start for cross-entropy: the minimum for a few groups of classes, interpolated to all classes.

At the minimum the score of a class for another one, or for itself, is a function of their counts, smooth but for kinks
where classes begin to be given up. So the problem in which similar counts are replaced by their mean (symmetry
reduction: a few numbers a pair of groups, whatever K is) gives that function at the groups' counts, and cubic
interpolation in the logarithm of the count, which does not overshoot at kinks (PCHIP), gives it everywhere. Where no
counts were merged the start is the minimum, to the tolerance of the reduced problem.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from .._exact.symmetric_problem import SymmetricProblem, Types, aligned_factors
from .._model.canonical import CanonicalProblem
from .._numerics.newton import newton
from .._runtime.arrays import Array
from .._runtime.threads import concurrently

GROUPS = 32
_TOLERANCE, _STEPS = 1e-6, 50  # of Newton's method


def grouped_factors(problem: CanonicalProblem) -> tuple[Array, Array, Array, float]:
    """Return A and B (K, K) in the class-aligned gauge, b, and the cost in products of K x K matrices."""
    counts = problem.rows.ridges
    samples, kind = np.unique(counts, return_inverse=True)
    group = _groups(samples, np.bincount(kind))[kind]
    M = np.bincount(group).astype(float)
    mean = np.bincount(group, counts) / M
    reduced = SymmetricProblem(
        Types(mean, M, np.ones_like(M)),
        tau=problem.tau,
        smoothing=problem.loss.parameters["label_smoothing"],
        lambda_b=problem.lambda_b,
        bias=problem.bias,
    )
    x, _ = newton(reduced, reduced.start(), _TOLERANCE, _STEPS)
    a, *factors, b = reduced.split(x)
    contrast = np.sqrt(reduced.contrasts(a))

    def to_classes(values: Array) -> Array:
        return _interpolated(np.log(mean), values, np.log(samples))[kind]

    def expanded(mean_part: Array) -> Array:
        others = mean_part / np.sqrt(np.outer(M, M))
        own = others.diagonal() + contrast * (1 - 1 / M)
        np.fill_diagonal(others, np.where(M > 1, others.diagonal() - contrast / M, _beside_diagonal(others)))
        full = to_classes(np.ascontiguousarray(to_classes(others).T)).T.copy()
        full[np.diag_indices(problem.K)] += to_classes(own - others.diagonal())
        return full

    parts = aligned_factors(factors[1] @ factors[0].T)
    A, B = concurrently([partial(expanded, part) for part in parts], min(2, problem.workers))
    cost = reduced.products * (reduced.m / problem.K) ** 3
    return A, B, to_classes(b / np.sqrt(M)), cost


def _groups(samples: Array, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group of each count, ascending: at most GROUPS of them, spread over the classes and over the logarithm alike."""
    if len(samples) <= GROUPS:
        return np.arange(len(samples))
    rank = (np.cumsum(classes) - classes / 2) / classes.sum()
    level = np.log(samples / samples[0]) / np.log(samples[-1] / samples[0])
    position = np.minimum((0.5 * (rank + level) * GROUPS).astype(np.int64), GROUPS - 1)
    group: NDArray[np.int64] = np.unique(position, return_inverse=True)[1]
    return group


def _interpolated(nodes: Array, values: Array, at: Array) -> Array:
    """Values at the nodes, along the first axis, interpolated; a constant where there is one node."""
    if len(nodes) == 1:
        return np.repeat(values, len(at), axis=0)
    result: Array = PchipInterpolator(nodes, values, extrapolate=True)(at)
    return result


def _beside_diagonal(M: Array) -> Array:
    """The mean of each diagonal entry's neighbours: what a class alone in its group would have with one like it."""
    if len(M) == 1:
        return M.diagonal()
    padded = np.pad(M, 1, mode="reflect")
    i = np.arange(1, len(M) + 1)
    mean: Array = (padded[i - 1, i] + padded[i + 1, i] + padded[i, i - 1] + padded[i, i + 1]) / 4
    return mean
