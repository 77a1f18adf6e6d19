"""Losses of a UFM, as functions of one sample's K logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ._arguments import choice, real_number


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

    def __post_init__(self) -> None:
        smoothing = real_number(self.label_smoothing, "label_smoothing", least=0, below=1)
        object.__setattr__(self, "label_smoothing", smoothing)


@dataclass(frozen=True)
class MSE:
    """Half the squared error, ``|z - e_k|^2 / 2`` for logits z with label k (Zhou et al. 2022, arXiv 2203.01238)."""

    label_smoothing: ClassVar[float] = 0.0
    name: ClassVar[str] = "mse"
    convex: ClassVar[bool] = True


Loss = CrossEntropy | MSE


def as_loss(loss: str | Loss) -> Loss:
    """Return the loss object that a name or an object stands for; what is derived from a loss is another loss."""
    if isinstance(loss, str):
        by_name = {cls.name: cls for cls in (CrossEntropy, MSE)}
        return by_name[choice(loss, "loss", list(by_name))]()
    if type(loss) not in (CrossEntropy, MSE):
        raise TypeError(f"loss must be a name, a CrossEntropy or an MSE, not of the class {type(loss).__name__}")
    return loss
