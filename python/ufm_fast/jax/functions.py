"""What JAX differentiates: functions of W, H and perhaps b, with their derivatives, on NumPy arrays.

A function is ``sum_i w_i r_i(x)`` of parameters x, with weights w, or without any. Each method gets the groups of its
operands, x, constants, w and directions, as tuples of arrays, and returns a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import Point
from .. import linear_cross_entropy as evaluate
from .. import linear_cross_entropy_hvp as multiply
from .._model.functions import Functions
from .._model.loss import Loss
from .._networks.row_losses import of_any_sign, row_products, row_slopes, widened

Group: TypeAlias = "tuple[NDArray[Any], ...]"


class Function(Protocol):
    """Of so many parameters, constants and arrays of weights; equal and hashed as a static argument of JAX."""

    @property
    def parameters(self) -> int: ...
    @property
    def constants(self) -> int: ...
    @property
    def weights(self) -> int: ...


@dataclass(frozen=True)
class ModelLoss:
    """The loss of a model, of W, H and, if it has one, b. Two are equal if they are of the same object."""

    ufm: Functions
    constants = weights = 0

    @property
    def parameters(self) -> int:
        return 2 + self.ufm.layout.bias

    def loss(self, x: Group, constants: Group, w: Group) -> list[Any]:
        return [self.ufm.loss(self._point(x))]

    def loss_and_grad(self, x: Group, constants: Group, w: Group) -> list[Any]:
        value, gradient = self.ufm.loss_and_grad(self._point(x))
        return [value, *gradient[: self.parameters]]

    def hvp(self, x: Group, constants: Group, w: Group, v: Group) -> list[Any]:
        return list(self.ufm.hvp(self._point(x), self._point(v))[: self.parameters])

    def _point(self, parts: Group) -> Point:
        b = parts[2] if self.ufm.layout.bias else np.zeros(self.ufm.layout.biases, self.ufm.dtype)
        return Point(parts[0], parts[1], b)


@dataclass(frozen=True)
class BatchLoss:
    """The loss of a batch, of W, H and, if it has one, b; r_i is the loss of row i, for "mean" over their number."""

    loss_function: Loss
    ignored: tuple[int, ...]
    reduction: Literal["mean", "sum"]
    threads: int | None
    bias: bool
    constants = weights = 1

    @property
    def parameters(self) -> int:
        return 2 + self.bias

    def loss(self, x: Group, constants: Group, w: Group) -> list[Any]:
        return self.loss_and_grad(x, constants, w)[:1]

    def loss_and_grad(self, x: Group, constants: Group, w: Group) -> list[Any]:
        return list(of_any_sign(w[0], lambda weights: self._evaluate(x, constants, weights, self.reduction)))

    def hvp(self, x: Group, constants: Group, w: Group, v: Group) -> list[Any]:
        return list(of_any_sign(w[0], lambda weights: self._multiply(x, constants, weights, v)))

    def rows(self, x: Group, constants: Group, w: Group) -> list[Any]:
        """Return w r, (N,)."""
        losses = self._evaluate(x, constants, None, "none")[0]
        kept = len(losses) if constants[0].ndim == 2 else np.count_nonzero(~np.isin(constants[0], self.ignored))
        return [_finite(w[0]) * (losses / kept if self.reduction == "mean" and kept else losses)]

    def row_jvp(self, x: Group, constants: Group, w: Group, v: Group) -> list[Any]:
        """Return w times the derivative of r along v, (N,)."""
        return [_finite(w[0]) * row_slopes(self._gradient(x, constants, v), x[1], v[1])]

    def row_hvp(self, x: Group, constants: Group, w: Group, v: Group, u: Group) -> list[Any]:
        """Return w times the second derivative of r along v and u, (N,)."""
        wide, wide_u = self._wide(x, v), self._wide(u, tuple(map(np.zeros_like, v)))
        rows = row_slopes(self._multiply(wide, constants, None, wide_u)[1], x[1], v[1])
        d = x[1].shape[1]
        rows += row_products(self._gradient(x, constants, v)[:, d : 2 * d], u[1])
        return [_finite(w[0]) * rows]

    def _gradient(self, x: Group, constants: Group, v: Group) -> NDArray[Any]:
        found: NDArray[Any] = self._evaluate(self._wide(x, v), constants, None, self.reduction)[2]
        return found

    def _wide(self, x: Group, v: Group) -> Group:
        return *widened(x[0], x[1], v[0], v[2] if self.bias else None), *x[2:]

    def _evaluate(self, x: Group, constants: Group, weights: Any, reduction: Any) -> list[Any]:
        W, H, *b = x
        value, gradient = evaluate(W, H, constants[0], *b, reduction=reduction, **self._options(weights))
        return [value, *gradient[: self.parameters]]

    def _multiply(self, x: Group, constants: Group, weights: Any, v: Group) -> list[Any]:
        W, H, *b = x
        direction: Any = v if self.bias else (*v, None)
        product = multiply(W, H, constants[0], direction, *b, reduction=self.reduction, **self._options(weights))
        return list(product[: self.parameters])

    def _options(self, weights: Any) -> dict[str, Any]:
        return {
            "loss": self.loss_function, "weights": weights, "ignore_index": self.ignored or None,
            "threads": self.threads,
        }  # fmt: skip


def _finite(w: NDArray[Any]) -> NDArray[Any]:
    wrong = ~np.isfinite(w)
    if wrong.any():
        raise ValueError(f"weights must be finite, but number {wrong.argmax()} is {w[wrong.argmax()]}")
    return w
