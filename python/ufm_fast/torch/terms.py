"""Losses at tensors, without derivatives by PyTorch: the terms that `functions` makes differentiable.

The core reads the tensors' own memory; one that is not contiguous is copied first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

import ufm_fast as uf

from .._model.loss import Loss
from .._networks.row_losses import of_any_sign, row_slopes, widened

#: What is constant of the rows: labels or targets, and weights; None where there are none.
Data: TypeAlias = "Sequence[Tensor | None]"
#: W, H and b, or a direction or gradient; the last is None without a bias.
Parts: TypeAlias = "Sequence[Any]"


class Term(Protocol):
    """A function of W, H and b."""

    @property
    def of_rows(self) -> bool:
        """Whether it is a list of the losses of rows: a `RowTerm`."""

    def value(self, data: Data, point: Parts) -> Tensor:
        """Return the value."""

    def value_and_gradient(self, data: Data, point: Parts) -> Parts:
        """Return the value and the three parts of the gradient."""

    def product(self, data: Data, point: Parts, v: Parts) -> Parts:
        """Return the three parts of the Hessian's product with v."""


class RowTerm(Term, Protocol):
    """The losses of rows."""

    def summed(self) -> RowTerm:
        """Return their sum, as a term."""

    def along(self, labels: Tensor | None, point: Parts, v: Parts) -> Tensor:
        """Return their derivatives along v, without weights."""


class Model(NamedTuple):
    """The loss of a UFM, whose data are its own."""

    ufm: uf.UFM

    @property
    def of_rows(self) -> bool:
        return False

    def value(self, data: Data, point: Parts) -> Tensor:
        return _like(point, self.ufm.loss(self._point(point)))

    def value_and_gradient(self, data: Data, point: Parts) -> Parts:
        value, gradient = self.ufm.loss_and_grad(self._point(point))
        return _like(point, value), *self._parts(gradient)

    def product(self, data: Data, point: Parts, v: Parts) -> Parts:
        return self._parts(self.ufm.hvp(self._point(point), self._point(v)))

    def _point(self, parts: Parts) -> uf.Point:
        W, H, b = map(_array, parts)
        return uf.Point(W, H, b if self.ufm.bias else np.zeros(self.ufm.layout.biases, self.ufm.dtype))

    def _parts(self, p: uf.Point) -> Parts:
        return _tensor(p.W), _tensor(p.H), _tensor(p.b) if self.ufm.bias else None


class Head(NamedTuple):
    """The loss of a batch, or the list of the losses of its rows; weights of rows may be negative."""

    loss: str | Loss
    label_smoothing: float
    ignore_index: int | None
    reduction: str
    threads: int | None

    @property
    def of_rows(self) -> bool:
        return self.reduction == "none"

    def summed(self) -> Head:
        return self._replace(reduction="sum")

    def value(self, data: Data, point: Parts) -> Tensor:
        if not self.of_rows:
            return self.value_and_gradient(data, point)[0]
        W, H, b = map(_array, point)
        labels, weights = map(_array, data)
        losses, _ = uf.linear_cross_entropy(W, H, labels, b, reduction="none", **self._options())
        return _like(point, losses if weights is None else losses * weights)

    def value_and_gradient(self, data: Data, point: Parts) -> Parts:
        W, H, b = map(_array, point)
        labels, weights = map(_array, data)
        options = {"reduction": self.reduction, **self._options()}

        def of(weights: Any) -> tuple[Any, ...]:
            value, gradient = uf.linear_cross_entropy(W, H, labels, b, weights=weights, **options)
            return value, *gradient

        value, *gradient = of_any_sign(weights, of)
        return _like(point, value), *map(_tensor, gradient)

    def product(self, data: Data, point: Parts, v: Parts) -> Parts:
        W, H, b = map(_array, point)
        labels, weights = map(_array, data)
        direction = tuple(map(_array, v))
        options = {"reduction": self.reduction, **self._options()}

        def of(weights: Any) -> Any:
            return uf.linear_cross_entropy_hvp(W, H, labels, direction, b, weights=weights, **options)

        return tuple(map(_tensor, of_any_sign(weights, of)))

    def along(self, labels: Tensor | None, point: Parts, v: Parts) -> Tensor:
        """Return the derivative of the list along v, without weights."""
        W, H, b = map(_array, point)
        V_W, V_H, V_b = map(_array, v)
        wide_W, wide_H = widened(W, H, V_W, V_b)
        _, gradient = uf.linear_cross_entropy(wide_W, wide_H, _array(labels), b, reduction="sum", **self._options())
        return _like(point, row_slopes(gradient[1], H, V_H))

    def _options(self) -> dict[str, Any]:
        loss = self.loss
        if self.label_smoothing:
            if loss != "cross_entropy":
                raise ValueError(f"label_smoothing must be 0 for the loss {loss!r}: it is cross-entropy's")
            loss = uf.CrossEntropy(self.label_smoothing)
        return {"loss": loss, "ignore_index": self.ignore_index, "threads": self.threads}


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().contiguous().numpy()


def _tensor(array: Any) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def _like(point: Parts, value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=point[0].dtype, device="cpu")
