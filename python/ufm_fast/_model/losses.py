"""Losses of a UFM, as functions of one sample's K logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .._runtime.arguments import choice, real_number


@dataclass(frozen=True)
class CrossEntropy:
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
    convex: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True  # the same for logits that all are larger by as much

    def __post_init__(self) -> None:
        smoothing = real_number(self.label_smoothing, "label_smoothing", least=0, below=1)
        object.__setattr__(self, "label_smoothing", smoothing)

    def change(self, value: float, error: float, K: int) -> float:
        """Bound the change of a mean loss of this value when no logit moves by more than ``error``.

        A sample's gradient in the logits has absolute entries that add up to at most 2 (1 - p) + 2 label_smoothing with
        p the probability of its label, and 1 - p is at most its loss over 1 - label_smoothing; the second derivative
        along the move, a variance, is at most error^2. Besides, no such sum exceeds 2.
        """
        slope = 2 * value / (1 - self.label_smoothing) + 2 * self.label_smoothing
        return min(slope + error / 2, 2.0) * error


@dataclass(frozen=True)
class MSE:
    """Half the squared error, ``|z - e_k|^2 / 2`` for logits z with label k (Zhou et al. 2022, arXiv 2203.01238)."""

    label_smoothing: ClassVar[float] = 0.0
    name: ClassVar[str] = "mse"
    convex: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = False

    def change(self, value: float, error: float, K: int) -> float:
        """Bound the change of a mean loss of this value when no logit moves by more than ``error``.

        By the inequality of Cauchy and Schwarz, since the residuals' mean square is twice the value.
        """
        return (math.sqrt(2 * K * value) + K * error / 2) * error


Loss = CrossEntropy | MSE


def as_loss(loss: str | Loss) -> Loss:
    """Return the loss object that a name or an object stands for; what is derived from a loss is another loss."""
    if isinstance(loss, str):
        by_name = {cls.name: cls for cls in (CrossEntropy, MSE)}
        return by_name[choice(loss, "loss", list(by_name))]()
    if type(loss) not in (CrossEntropy, MSE):
        raise TypeError(f"loss must be a name, a CrossEntropy or an MSE, not of the class {type(loss).__name__}")
    return loss
