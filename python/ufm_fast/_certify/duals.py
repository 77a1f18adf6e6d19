"""The dual problem of each loss that has one."""

from __future__ import annotations

from collections.abc import Callable

from .._model.canonical import CanonicalProblem
from .._model.grouped import GroupedCrossEntropy
from .._model.loss import Loss
from .._model.losses import MSE, BinaryCrossEntropy, CrossEntropy
from .._model.model import UFM
from .._model.ordinal import Ordinal
from .binary import BinaryDual
from .dual import LowerBounds
from .entropic import EntropicDual
from .grouped import GroupedDual
from .ordinal import OrdinalDual
from .quadratic import QuadraticDual

_DUALS: dict[type[Loss], Callable[[CanonicalProblem], LowerBounds]] = {
    CrossEntropy: EntropicDual,
    GroupedCrossEntropy: GroupedDual,
    MSE: QuadraticDual,
    BinaryCrossEntropy: BinaryDual,
    Ordinal: OrdinalDual,
}


def has_dual(ufm: UFM) -> bool:
    """Whether the loss of a model has a dual problem."""
    return type(ufm.loss_function) in _DUALS


def require_dual(ufm: UFM) -> None:
    """Raise ValueError if the loss of a model has no dual problem, without which nothing is certified."""
    loss = ufm.loss_function
    if not has_dual(ufm):
        raise ValueError(
            f"loss {loss} cannot be certified: no dual problem is known for it"
            + ("" if loss.convex else " (it is not convex in the logits)")
        )


def dual_of(problem: CanonicalProblem) -> LowerBounds:
    """Return the lower bounds of a problem whose loss has one."""
    require_dual(problem.ufm)
    return _DUALS[type(problem.loss)](problem)
