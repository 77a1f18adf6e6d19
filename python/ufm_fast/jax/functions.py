"""What JAX differentiates: functions of W, H and perhaps b, with their derivatives, on NumPy arrays.

A function is ``sum_i w_i r_i(x)`` of parameters x, with weights w, or without any. Each method gets the groups of its
operands, x, constants, w and directions, as tuples of arrays, and returns a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .. import Point
from .. import linear_cross_entropy as evaluate
from .. import linear_cross_entropy_hvp as multiply
from .._model.functions import Functions
from .._model.loss import Loss

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
        return _of_signed(w[0], lambda weights: self._evaluate(x, constants, weights, self.reduction))

    def hvp(self, x: Group, constants: Group, w: Group, v: Group) -> list[Any]:
        return _of_signed(w[0], lambda weights: self._multiply(x, constants, weights, v))

    def rows(self, x: Group, constants: Group, w: Group) -> list[Any]:
        """Return w r, (N,)."""
        losses = self._evaluate(x, constants, None, "none")[0]
        kept = len(losses) if constants[0].ndim == 2 else np.count_nonzero(~np.isin(constants[0], self.ignored))
        return [_finite(w[0]) * (losses / kept if self.reduction == "mean" and kept else losses)]

    def row_jvp(self, x: Group, constants: Group, w: Group, v: Group) -> list[Any]:
        """Return w times the derivative of r along v, (N,), by the gradient in H of a batch with more columns.

        With W' = [W, V_W, v_b] and H' = [H, 0, 0] the logits are the same, and the gradient in row i of H' holds the
        products of that in the logits with W, V_W and v_b.
        """
        return [_finite(w[0]) * self._along(self._gradient(x, constants, v), x, v)]

    def row_hvp(self, x: Group, constants: Group, w: Group, v: Group, u: Group) -> list[Any]:
        """Return w times the second derivative of r along v and u, (N,), as in `row_jvp`."""
        wide, wide_u = self._wide(x, v), self._wide(u, tuple(map(np.zeros_like, v)))
        rows = self._along(self._multiply(wide, constants, None, wide_u)[1], x, v)
        d = x[1].shape[1]
        rows += _row_products(self._gradient(x, constants, v)[:, d : 2 * d], u[1])
        return [_finite(w[0]) * rows]

    def _gradient(self, x: Group, constants: Group, v: Group) -> NDArray[Any]:
        found: NDArray[Any] = self._evaluate(self._wide(x, v), constants, None, self.reduction)[2]
        return found

    def _along(self, of_wide: NDArray[Any], x: Group, v: Group) -> NDArray[Any]:
        """Add up the products of the three blocks of columns with the rows of V_H, of H and with one."""
        d = x[1].shape[1]
        found: NDArray[Any] = _row_products(of_wide[:, :d], v[1]) + _row_products(of_wide[:, d : 2 * d], x[1])
        found += of_wide[:, 2 * d]
        return found

    def _wide(self, x: Group, v: Group) -> Group:
        column = v[2][:, None] if self.bias else np.zeros((len(x[0]), 1), x[0].dtype)
        H = np.concatenate([x[1], np.zeros((len(x[1]), x[1].shape[1] + 1), x[1].dtype)], axis=1)
        return np.concatenate([x[0], v[0], column], axis=1), H, *x[2:]

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


def _of_signed(w: NDArray[Any], linear: Callable[[NDArray[Any]], list[Any]]) -> list[Any]:
    """Return what is linear in weights, from a function that takes no negative ones."""
    if not (w < 0).any():
        return linear(w)
    return [plus - minus for plus, minus in zip(linear(np.maximum(w, 0)), linear(np.maximum(-w, 0)), strict=True)]


def _finite(w: NDArray[Any]) -> NDArray[Any]:
    wrong = ~np.isfinite(w)
    if wrong.any():
        raise ValueError(f"weights must be finite, but number {wrong.argmax()} is {w[wrong.argmax()]}")
    return w


def _row_products(A: NDArray[Any], B: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = np.einsum("ij,ij->i", A, B)
    return found
