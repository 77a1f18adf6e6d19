"""Losses of a UFM, as functions of one sample's K logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, optionally with label smoothing.

    The loss of logits z with label k is ``logsumexp(z) - <t, z>`` with the target
    ``t = (1 - label_smoothing) e_k + label_smoothing / K`` (Zhou et al. 2022, arXiv 2210.02192).

    Parameters
    ----------
    label_smoothing : float
        In [0, 1).

    Raises
    ------
    ValueError
        If ``label_smoothing`` lies outside [0, 1).
    """

    label_smoothing: float = 0.0
    name: ClassVar[str] = "cross_entropy"
    convex: ClassVar[bool] = True
    shift_invariant: ClassVar[bool] = True  # the same for logits that all are larger by as much

    def __post_init__(self) -> None:
        if not (math.isfinite(self.label_smoothing) and 0 <= self.label_smoothing < 1):
            raise ValueError(f"label_smoothing must lie in [0, 1), not {self.label_smoothing!r}")

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
    """Return the loss object that a name or an object stands for."""
    if isinstance(loss, (CrossEntropy, MSE)):
        return loss
    by_name = {cls.name: cls for cls in (CrossEntropy, MSE)}
    if isinstance(loss, str):
        if loss not in by_name:
            raise ValueError(f"loss must be one of {', '.join(map(repr, by_name))} or a loss object, not {loss!r}")
        return by_name[loss]()
    raise TypeError(f"loss must be a name or a loss object, not {type(loss).__name__}")
