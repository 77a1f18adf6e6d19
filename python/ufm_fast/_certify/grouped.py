"""The dual problem of cross-entropy over groups of exchangeable classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlog1py

from .._model.grouped import GroupedCrossEntropy
from .._runtime.arrays import Array
from .dual import TINY, UNIT, Dual
from .entropic import EntropicDual, OtherEntries

if TYPE_CHECKING:
    from .._model.canonical import CanonicalProblem


class GroupedDual(EntropicDual):
    """The dual of the model of all classes, at points that are symmetric under exchanges of classes within groups.

    With M_k classes in group k, such a dual point has between groups the flow of an `EntropicDual` with a row and an
    entry a group; a flow to a group is shared evenly by its classes. Within group k, in B = M_k blocks of one class,
    the target's own class has the probability P and each other one p: they are what the sum W of the other groups
    leaves, P + (B - 1) p = 1 - W. The part of Y on differences within the group is the number

        (P - p - (1 - smoothing)) scale weight / root   of absolute value at most tau,   that is   P - p >= r,

    r the excess of `GroupedCrossEntropy`, and its norm is the larger of this and that of the part between groups. Of
    all such P and p those of most entropy are taken: P - p = r, or 0 for a group with r = 0. So W <= smoothing + miss
    is a constraint of groups with r > 0, and p = e / B with e = smoothing + miss - W. What `EntropicDual` says of
    rounding holds, a row's probabilities being those between groups, with this added:

    * miss, smoothing and W are known to a few u of their sizes, or (32 + L/4) u, so e is known to this times
      s = smoothing + miss + W, and p to that over B: an error dq as there. Where e is within its rounding of zero,
      (1 - h) Y takes the place of Y, with a no more than e / s for the targets themselves.
    * A flow that restores e = 0 is taken from the target's own class. It is one between classes, all M_k of a group
      giving or receiving the same, so for the matrix of all classes |e / root|_2 is that of groups' totals e_k over
      sqrt(M_k) root, the root of a group's ridge.
    """

    def __init__(self, problem: CanonicalProblem) -> None:
        Dual.__init__(self, problem)
        loss = problem.loss
        assert isinstance(loss, GroupedCrossEntropy)
        self.loss, self.anchors = loss, np.arange(problem.K)
        self.scale, self.largest_scale = loss.scale, float((loss.scale * np.sqrt(loss.classes)).max())
        self.allowed = np.where(loss.excess > 0, loss.label_smoothing + loss.miss, 1.0)
        target = 1 - loss.label_smoothing * (1 - loss.share)
        self.least_anchor = float(np.minimum(target, self._room(1 - target)).min())
        centred = loss.shift - (loss.shift.min() / 2 + loss.shift.max() / 2)
        self.shift, self.own_shift = centred + np.log(loss.classes), centred
        self.affine, self.present = True, None
        entries = loss.share * np.log(loss.classes)
        self.target_logarithms = loss.label_smoothing * (entries.sum() - entries)
        if loss.label_smoothing > 0:
            self.floor = max(0.0, self.value(np.zeros((problem.K, problem.K))))

    def mean_curvature(self, G: Array) -> float:
        """Return the mean over all classes: of products of what rows and columns add up to."""
        classes, sums = self.loss.classes, self.problem.curvature(G)
        total = max(sums.total, TINY) * float(classes.sum()) ** 2
        return float(sums.rows @ classes) * float(sums.columns @ classes) / total

    def _room(self, wrong: Array) -> Array:
        left: Array = (self.allowed - wrong) / (self.allowed + wrong)
        return left

    def _within(self, wrong: Array) -> tuple[Array, Array]:
        """The probabilities 1 - P and p."""
        p = (self.allowed - wrong) / self.loss.blocks
        return wrong + (self.loss.blocks - 1) * p, p

    def _at_anchors(self, wrong: Array) -> Array:
        return 1 - self._within(wrong)[0] - 4 * self.rounding

    def _entropies(self, sums: OtherEntries) -> float:
        wrong, loss = sums.wrong, self.loss
        missed, p = self._within(wrong)
        own = 1 - missed
        if not (sums.least.min() >= 0 and p.min() >= 0 and own.min() >= 0):
            return -np.inf
        spread = sums.entropy - (loss.blocks - 1) * p * np.log(np.maximum(p, TINY))
        entropy = spread - xlog1py(own, -missed) + (1 - wrong) * np.log(loss.size) + self.target_logarithms
        size = self.allowed + wrong
        terms = (
            spread
            + size * (5 - 2 * np.log(np.maximum(own, UNIT)) - np.log(np.maximum(p, TINY)))
            + 2 * sums.target_terms
        )
        return float(self.problem.weights @ (entropy - self.rounding * (terms + entropy)))
