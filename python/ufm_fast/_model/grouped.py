"""Cross-entropy of many classes, reduced to rows that treat exchangeable classes alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .._runtime.arrays import Array
from .loss import Loss, Parameters, change_of_entropy


@dataclass(frozen=True, eq=False)
class GroupedCrossEntropy(Loss):
    """Cross-entropy over groups of exchangeable classes, the scores within a group at their best.

    A row stands for the classes of one group, with one logit a group; see the core's loss of this name. Group k has
    ``blocks[k]`` blocks of ``size[k]`` classes that share all parameters, so ``classes`` in all. Their logits are
    ``scale z + shift`` and, in the row's own group, higher in the own block than in others by some u >= 0, which costs
    ``miss (1 - 1/blocks) u`` and is at its best.

    Parameters
    ----------
    label_smoothing : float
    blocks, size, miss, scale, shift : ndarray, shape (m,)
    """

    label_smoothing: float
    blocks: Array
    size: Array
    miss: Array
    scale: Array
    shift: Array
    name: ClassVar[str] = "grouped_cross_entropy"
    title: ClassVar[str] = "cross-entropy of groups"
    convex: ClassVar[bool] = True
    saturates: ClassVar[bool] = True

    @property
    def classes(self) -> Array:
        """Number of classes of each group."""
        return self.blocks * self.size

    @property
    def share(self) -> Array:
        """Of each group in all classes."""
        share: Array = self.classes / self.classes.sum()
        return share

    @property
    def excess(self) -> Array:
        """By how much the probability of a row's own block exceeds that of another block of its group."""
        return np.where(self.blocks > 1, np.maximum(0.0, 1 - self.label_smoothing - self.miss), 0.0)

    @property
    def parameters(self) -> Parameters:
        """All of them."""
        vectors = ("blocks", "size", "miss", "scale", "shift")
        return {"label_smoothing": self.label_smoothing, **{name: getattr(self, name).tolist() for name in vectors}}

    def check_rows(self, labels: NDArray[np.int64] | None, K: int, bias: bool) -> None:
        """Raise ValueError for targets that are no labels."""
        if labels is None:
            raise ValueError("targets of grouped cross-entropy must be labels")

    def prepared(self, targets: Array) -> Array:
        """Return the targets, smoothed evenly over all classes."""
        smoothed: Array = (1 - self.label_smoothing) * targets + self.label_smoothing * self.share
        return smoothed

    @property
    def curvature(self) -> float:
        """Half the largest squared scale, as for cross-entropy with scales: the best u makes it no larger."""
        return 0.5 * float(self.scale.max()) ** 2

    @property
    def least_curvature(self) -> float:
        """Zero, along the invariant direction."""
        return 0.0

    @property
    def treats_classes_alike(self) -> bool:
        """No: groups differ."""
        return False

    @property
    def offset(self) -> float:
        """The largest shift, with the logarithm of the number of classes, over the largest scale."""
        return float(abs(self.shift + np.log(self.classes)).max() / self.scale.max())

    def invariant_direction(self, K: int) -> Array:
        """Return 1 / scale."""
        direction: Array = 1 / self.scale
        return direction

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change as for cross-entropy: the loss is the least of such losses, plus a positive number."""
        return change_of_entropy(value, error * float(self.scale.max()), self.label_smoothing, weight)
