"""The solver's start for groups of exchangeable classes: the minimum for fewer groups, interpolated.

At the minimum the score of a class for another one is a smooth function of what distinguishes the two, but for kinks
where classes are given up. So the problem in which similar groups are merged gives that function at few places, and
cubic interpolation in the logarithm of the ridge, which does not overshoot at kinks (PCHIP), gives it everywhere.

The score of a class for itself has its kink where `Groups.miss` reaches one, and there its slope is about K: too steep
to interpolate. But its margin over the classes beside it is known where the others' logits are,

    log((1 + r S) / (1 - r)),   r = max(0, 1 - smoothing - miss),

with S the sum of exp(logit - logit beside) over all other classes. The margin's formula is taken at all groups, and
only its error, on either side of the kink by itself, is interpolated. Groups are merged finely near the kink and never
across it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from .._exact.groups import Groups
from .._runtime.arrays import Array
from .factors import aligned_factors

SPREAD, NEAR_KINK = 48, 32  # numbers of merged groups: over all classes, and more of them near a kink
_NEAR = 0.02  # distance from a kink, in the logarithm of the ridge, at which groups are merged coarsely


def alone(groups: Groups, tau: float, smoothing: float) -> tuple[Array, Array]:
    """Return factors A and B in which every class has the margin that it would have on its own.

    They are the minimum where all groups are alike.
    """
    K = float(groups.blocks.sum())
    miss = np.clip((groups.miss(tau) + smoothing) * (1 - 1 / K), 1e-12, (1 - 1 / K) * (1 - 1e-3))
    margin = np.log((1 - miss) * (K - 1) / miss)
    diagonal = np.sqrt(margin * np.sqrt(groups.ridges) * groups.size / groups.scale)
    shift = np.sqrt(groups.classes / groups.classes.sum())
    idle = shift / diagonal
    idle /= np.linalg.norm(idle)  # A idle = 0
    A = np.diag(diagonal) - np.outer(shift, shift * diagonal)
    B = np.diag(diagonal) - np.outer(diagonal * idle, idle)
    return aligned_factors(B @ A.T)


def merged_similar(groups: Groups, position: Array) -> tuple[Groups, NDArray[np.intp]] | None:
    """Merge groups that are similar, at most so many as the constants say; return also where each group went.

    `position`: twice the logarithm of what the target exceeds `miss` by, zero at a kink. None where the groups' ridges
    do not tell them apart.
    """
    logarithm = np.log(groups.ridges)
    if np.diff(logarithm).min() <= 0:
        return None
    M = groups.classes
    rank = (np.cumsum(M) - M / 2) / M.sum()
    level = (logarithm - logarithm[0]) / (logarithm[-1] - logarithm[0])
    place = 0.5 * (rank + level) * SPREAD
    kept = position > 0
    if kept.any() and not kept.all():
        steps = np.abs(np.diff(np.sign(position) * np.log1p(np.abs(position) / _NEAR)))
        place[1:] += np.cumsum(steps) * (NEAR_KINK / steps.sum())
    crossed = np.concatenate([[0], np.cumsum(np.diff(kept))])
    span = SPREAD + NEAR_KINK + 2
    index = np.unique(np.floor(place).astype(np.int64) + span * crossed, return_inverse=True)[1]
    total = np.bincount(index, M).astype(np.float64)
    ridges, weights, scale, shift = (
        np.bincount(index, M * x) / total for x in (groups.ridges, groups.weights, groups.scale, groups.shift)
    )
    return Groups(ridges, weights, scale, shift, total, np.ones_like(total)), index


class Interpolation:
    """From the minimum for merged groups to factors for all groups."""

    def __init__(self, merged: Groups, groups: Groups, tau: float, smoothing: float) -> None:
        self.merged, self.groups, self.tau, self.smoothing = merged, groups, tau, smoothing
        self.nodes, self.at = np.log(merged.ridges), np.log(groups.ridges)

    def factors(self, A: Array, B: Array, contrast: Array, b: Array) -> tuple[Array, Array, Array]:
        """Take factors between the merged groups, their contrasts and sqrt(M) b; return A, B and sqrt(M) b for all."""
        M = self.merged.classes
        others = self._sum_over_others(B @ A.T, contrast, b / np.sqrt(M))
        at_merged = self._rise(self.merged, others)
        at_all = self._rise(self.groups, np.exp(self._everywhere(np.log(others))))
        parts = [self._expanded(X, np.sqrt(contrast), at_merged, at_all) for X in (A, B)]
        return parts[0], parts[1], self._everywhere(b / np.sqrt(M)) * np.sqrt(self.groups.classes)

    def _expanded(self, X: Array, root: Array, at_merged: Array, at_all: Array) -> Array:
        """One factor for all groups, given the formula's rise of own entries above those beside them."""
        entries, own = self._entries(X, root)
        full = self._everywhere(self._everywhere(entries).T).T
        rise = np.maximum(at_all + self._by_sides(own - entries.diagonal() - at_merged), 0)
        classes = self.groups.classes
        expanded: Array = full * np.sqrt(np.outer(classes, classes))
        expanded[np.diag_indices(len(classes))] += rise
        return expanded

    def _entries(self, X: Array, root: Array) -> tuple[Array, Array]:
        """Entries of single classes: for a class of another group or beside it in its own, and for itself."""
        M = self.merged.classes
        entries = X / np.sqrt(np.outer(M, M))
        own = entries.diagonal() + root * (1 - 1 / M)
        beside = np.where(M > 1, entries.diagonal() - root / M, _beside_diagonal(entries))
        np.fill_diagonal(entries, beside)
        return entries, own

    def _sum_over_others(self, C: Array, contrast: Array, b: Array) -> Array:
        """S of the margin's formula, for each merged group."""
        merged, M = self.merged, self.merged.classes
        scores, _ = self._entries(C, contrast)
        logits = merged.scale * (scores / np.sqrt(merged.ridges)[:, None] + b) + merged.shift
        sums: Array = (np.exp(logits - logits.diagonal()[:, None]) * (M - np.eye(len(M)))).sum(axis=1)
        return sums

    def _rise(self, groups: Groups, others: Array) -> Array:
        """The square root of the contrast by the margin's formula: what own entries of both factors rise by."""
        excess = np.clip(1 - self.smoothing - groups.miss(self.tau), 0, None)
        margin = np.log1p(excess * others) - np.log1p(-excess)
        rise: Array = np.sqrt(margin * np.sqrt(groups.ridges) / groups.scale)
        return rise

    def _everywhere(self, values: Array) -> Array:
        values_at: Array = _interpolated(self.nodes, values, self.at)
        return values_at

    def _by_sides(self, values: Array) -> Array:
        """Interpolated on either side of a kink by itself."""
        sides = [1 - self.smoothing - groups.miss(self.tau) > 0 for groups in (self.merged, self.groups)]
        result = np.zeros(len(self.at))
        for side in (False, True):
            nodes, at = sides[0] == side, sides[1] == side
            if nodes.any() and at.any():
                result[at] = _interpolated(self.nodes[nodes], values[nodes], self.at[at])
        return result


def _interpolated(nodes: Array, values: Array, at: Array) -> Array:
    """Values at the nodes, along the first axis, interpolated: linearly between two nodes, a constant from one."""
    if len(nodes) == 1:
        return np.repeat(values, len(at), axis=0)
    if len(nodes) == 2:
        weight = ((at - nodes[0]) / (nodes[1] - nodes[0])).reshape(-1, *[1] * (values.ndim - 1))
        line: Array = (1 - weight) * values[0] + weight * values[1]
        return line
    result: Array = PchipInterpolator(nodes, values, extrapolate=True)(at)
    return result


def _beside_diagonal(M: Array) -> Array:
    """The mean of each diagonal entry's neighbours: what a class alone in its group would have with one like it."""
    padded = np.pad(M, 1, mode="reflect")
    i = np.arange(1, len(M) + 1)
    mean: Array = (padded[i - 1, i] + padded[i + 1, i] + padded[i, i - 1] + padded[i, i + 1]) / 4
    return mean
