"""Losses of a UFM, as functions of one sample's K logits.

All that depends on the loss is asked of its object or, where the answer is a calculation of a higher floor (a dual
problem, a closed form), looked up in a table there by the object's class; where there is no answer, there is none.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from .._runtime.arguments import choice, real_number
from .._runtime.arrays import Array


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
    shift_invariant : bool
        Whether it stays as it is when all logits become larger by as much.
    curvature, least_curvature : float
        The largest eigenvalue that its second derivative in the logits can have, and a lower bound on the least.
    saturates : bool
        Whether its curvature vanishes for logits that are far in the right.
    has_best_bias : bool
        Whether there is a formula for the best bias.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    convex: ClassVar[bool]
    shift_invariant: ClassVar[bool]
    curvature: ClassVar[float]
    least_curvature: ClassVar[float]
    saturates: ClassVar[bool]
    has_best_bias: ClassVar[bool] = False

    @property
    def parameters(self) -> dict[str, float]:
        """Its parameters by name, as the compiled core and files have them."""
        return {}

    def describe(self) -> str:
        """Return a name with the parameters, for people."""
        return self.title

    def prepared(self, targets: Array) -> Array:
        """Return the targets (M, K) as the loss takes them."""
        return targets

    @property
    def aligns(self) -> bool:
        """Whether near a minimum the factors of class rows are best turned so that column k belongs to class k."""
        return False

    def best_bias(self, scores: Array, targets: Array, weights: Array, lambda_b: float) -> Array:
        """Return the bias of least loss for logits ``scores + b``, (M, K); only where `has_best_bias`."""
        raise NotImplementedError(f"{self.title} has no formula for the best bias")

    @abstractmethod
    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        The weights sum to ``weight``; ``labels``: whether every target is a label.
        """


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy, optionally with label smoothing.

    The loss of logits z with label k is ``logsumexp(z) - <t, z>`` with the target
    ``t = (1 - label_smoothing) e_k + label_smoothing / K`` (Zhou et al. 2022, arXiv 2210.02192).

    Parameters
    ----------
    label_smoothing : float
        In [0, 1). NumPy's scalars become floats.

    Raises
    ------
    TypeError
        If ``label_smoothing`` is not a real number.
    ValueError
        If ``label_smoothing`` lies outside [0, 1).
    """

    label_smoothing: float = 0.0
    name: ClassVar[str] = "cross_entropy"
    title: ClassVar[str] = "cross-entropy"
    convex: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True
    curvature: ClassVar[float] = 0.5
    least_curvature: ClassVar[float] = 0.0
    saturates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        smoothing = real_number(self.label_smoothing, "label_smoothing", least=0, below=1)
        object.__setattr__(self, "label_smoothing", smoothing)

    @property
    def parameters(self) -> dict[str, float]:
        """The label smoothing."""
        return {"label_smoothing": self.label_smoothing}

    def describe(self) -> str:
        """Return a name with the label smoothing, if there is any."""
        return self.title + (f" smoothed by {self.label_smoothing:g}" if self.label_smoothing else "")

    def prepared(self, targets: Array) -> Array:
        """Return the smoothed targets."""
        smoothed: Array = (1 - self.label_smoothing) * targets + self.label_smoothing / targets.shape[1]
        return smoothed

    @property
    def aligns(self) -> bool:
        """Whether there is no label smoothing."""
        return self.label_smoothing == 0

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        A sample's gradient in the logits has absolute entries that add up to at most 2 (1 - p) + 2 label_smoothing with
        p the probability of its label, and 1 - p is at most its loss over 1 - label_smoothing; the second derivative
        along the move, a variance, is at most error^2. Besides, no such sum exceeds 2.
        """
        if not labels:
            return 2 * weight * error
        slope = 2 * value / (1 - self.label_smoothing) + 2 * self.label_smoothing * weight
        return min(slope + weight * error / 2, 2.0 * weight) * error


@dataclass(frozen=True)
class MSE(Loss):
    """Half the squared error, ``|z - e_k|^2 / 2`` for logits z with label k (Zhou et al. 2022, arXiv 2203.01238)."""

    name: ClassVar[str] = "mse"
    title: ClassVar[str] = "squared error"
    convex: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = False
    curvature: ClassVar[float] = 1.0
    least_curvature: ClassVar[float] = 1.0
    saturates: ClassVar[bool] = False
    has_best_bias: ClassVar[bool] = True

    def best_bias(self, scores: Array, targets: Array, weights: Array, lambda_b: float) -> Array:
        """Return the weighted mean of the residuals, shrunk by the decay."""
        bias: Array = weights @ (targets - scores) / (weights.sum() + lambda_b)
        return bias

    def change(self, value: float, error: float, K: int, weight: float = 1.0, labels: bool = True) -> float:
        """Bound the change of a weighted sum of losses of this value when no logit moves by more than ``error``.

        By the inequality of Cauchy and Schwarz, since the residuals' weighted squares sum to twice the value.
        """
        return (math.sqrt(2 * K * weight * value) + weight * K * error / 2) * error


LOSSES: dict[str, type[Loss]] = {cls.name: cls for cls in (CrossEntropy, MSE)}


def as_loss(loss: str | Loss) -> Loss:
    """Return the loss object that a name or an object stands for; what is derived from a loss is another loss."""
    if isinstance(loss, str):
        return LOSSES[choice(loss, "loss", list(LOSSES))]()
    if type(loss) not in LOSSES.values():
        names = " or ".join(cls.__name__ for cls in LOSSES.values())
        raise TypeError(f"loss must be a name, or of the class {names}, not of the class {type(loss).__name__}")
    return loss


def describe_loss(loss: Loss) -> dict[str, Any]:
    """Give a loss in JSON's types: its name under "loss", and its parameters."""
    return {"loss": loss.name, **loss.parameters}


def described_loss(description: Mapping[str, Any]) -> Loss:
    """Make the loss that `describe_loss` described; other keys are ignored.

    Raises
    ------
    TypeError, ValueError
        If there is no such loss, or a parameter is missing or refused.
    """
    loss = as_loss(description["loss"])
    missing = [name for name in loss.parameters if name not in description]
    if missing:
        raise ValueError(f"the description of the loss lacks {', '.join(missing)}")
    return type(loss)(**{name: description[name] for name in loss.parameters})
