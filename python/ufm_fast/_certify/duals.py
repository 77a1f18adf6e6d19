"""The dual problem of each loss that has one."""

from __future__ import annotations

from .._model.canonical import CanonicalProblem
from .._model.loss import Loss
from .._model.losses import MSE, CrossEntropy
from .._model.model import UFM
from .dual import Dual
from .entropic import EntropicDual
from .quadratic import QuadraticDual

_DUALS: dict[type[Loss], type[Dual]] = {CrossEntropy: EntropicDual, MSE: QuadraticDual}


def require_dual(ufm: UFM) -> None:
    """Raise ValueError if the loss of a model has no dual problem, without which nothing is certified."""
    if type(ufm.loss_function) not in _DUALS or not ufm.loss_function.treats_classes_alike:
        raise ValueError(
            f"loss {ufm.loss_function} cannot be certified: no dual problem is known for it"
            + ("" if ufm.loss_function.convex else " (it is not convex in the logits)")
        )


def dual_of(problem: CanonicalProblem) -> Dual:
    """Return the dual of a problem whose loss has one."""
    require_dual(problem.ufm)
    return _DUALS[type(problem.loss)](problem)
