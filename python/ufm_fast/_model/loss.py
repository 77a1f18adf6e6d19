"""What the package asks of a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._runtime.arrays import Array

#: Of a loss: numbers, vectors with a number a logit, and words.
Parameters: TypeAlias = dict[str, Any]


def change_of_entropy(value: float, error: float, smoothing: float, weight: float) -> float:
    """Bound the change of a weighted sum of cross-entropies with labels when no logit moves by more than ``error``.

    A sample's gradient has absolute entries that add up to at most 2 (1 - p) + 2 smoothing with p the probability of
    its label, and 1 - p is at most its loss over 1 - smoothing; the second derivative along the move, a variance, is at
    most the square of the move. Besides, no such sum exceeds 2.
    """
    slope = 2 * value / (1 - smoothing) + 2 * smoothing * weight
    return min(slope + weight * error / 2, 2.0 * weight) * error


class Loss(ABC):
    """What the package knows of a loss.

    Attributes
    ----------
    name : str
        In files, on the command line and in the compiled core.
    title : str
        For people.
    convex : bool
        Whether it is convex in the logits.
    saturates : bool
        Whether its curvature vanishes for logits that are far in the right.
    has_best_bias : bool
        Whether there is a formula for the best bias.
    has_logsumexp : bool
        Whether it is made of the logarithm of the sum of the exponentials of the logits.
    gradient_tells_state : bool
        Whether second derivatives follow from the gradient in the logits.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    convex: ClassVar[bool]
    saturates: ClassVar[bool]
    has_best_bias: ClassVar[bool] = False
    has_logsumexp: ClassVar[bool] = False
    gradient_tells_state: ClassVar[bool] = True

    @property
    @abstractmethod
    def curvature(self) -> float:
        """The largest eigenvalue that its second derivative in the logits can have, or a bound on it from above."""

    @property
    @abstractmethod
    def least_curvature(self) -> float:
        """A bound from below on the eigenvalues of its second derivative in the logits."""

    @property
    def parameters(self) -> Parameters:
        """Its parameters by name, as the compiled core and files have them."""
        return {}

    def check(self, K: int) -> None:  # noqa: B027 - for most, any K will do
        """Raise ValueError if it is no loss of K logits."""

    def check_rows(self, labels: NDArray[np.int64] | None, K: int, bias: bool) -> None:  # noqa: B027 - for most, any do
        """Raise ValueError if it is no loss of rows with these labels (None for other targets), or needs a bias."""

    def outputs(self, K: int) -> int:
        """Return the number of logits, rows of W."""
        return K

    def biases(self, K: int) -> int:
        """Return the length of the bias."""
        return K

    @property
    def adds_bias(self) -> bool:
        """True: the bias has a number a logit, which is added to it."""
        return True

    def allowed_bias(self, b: Array, K: int) -> Array:
        """Return b, or a bias like it where b is none for this loss."""
        return b

    def describe(self) -> str:
        """Return a name with the parameters, for people."""
        return self.title

    def prepared(self, targets: Array) -> Array:
        """Return the targets (M, K) as the loss takes them."""
        return targets

    @property
    def treats_classes_alike(self) -> bool:
        """Whether permuting the classes, of logits and targets together, leaves the loss as it is."""
        return True

    def aligns(self, withheld: float) -> bool:
        """Whether near a minimum the factors of class rows are best turned so that column k belongs to class k.

        `withheld` is the probability that the decays alone keep from the label of a typical class.
        """
        return False

    @property
    def offset(self) -> float:
        """The largest number that it adds to a logit, in units of the logits; its rounding counts as theirs does."""
        return 0.0

    def invariant_direction(self, K: int) -> Array | None:
        """Return the direction (K,) along which logits can move without changing the loss; None if there is none."""
        return None

    def centred(self, X: Array) -> Array:
        """Return X, (K,) or (K, d), less its component along the invariant direction; X itself if there is none."""
        v = self.invariant_direction(len(X))
        if v is None:
            return X
        across: Array = X - np.multiply.outer(v, v @ X / (v @ v))
        return across

    def best_bias(self, scores: Array, targets: Array, weights: Array, lambda_b: float, guess: Array) -> Array:
        """Return the bias of least loss at these scores, (M, K); only where `has_best_bias`."""
        raise NotImplementedError(f"{self.title} has no formula for the best bias")

    @abstractmethod
    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        The weights sum to ``weight``; ``labels``: whether every target is a label.
        """
