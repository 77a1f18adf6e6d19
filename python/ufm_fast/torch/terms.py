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
        found = []
        for sign, each in _by_sign(weights):
            value, gradient = uf.linear_cross_entropy(W, H, labels, b, weights=each, **options)
            found.append((sign, (value, *gradient)))
        value, *gradient = _added(found)
        return _like(point, value), *map(_tensor, gradient)

    def product(self, data: Data, point: Parts, v: Parts) -> Parts:
        W, H, b = map(_array, point)
        labels, weights = map(_array, data)
        direction = tuple(map(_array, v))
        options = {"reduction": self.reduction, **self._options()}
        found = [
            (sign, uf.linear_cross_entropy_hvp(W, H, labels, direction, b, weights=each, **options))
            for sign, each in _by_sign(weights)
        ]
        return tuple(map(_tensor, _added(found)))

    def along(self, labels: Tensor | None, point: Parts, v: Parts) -> Tensor:
        """Return the derivative of the list along v, without weights.

        With r_i for the derivative of row i in its logits it is ``r_i W v_i + r_i V h_i + r_i v_b``. More columns of W,
        where the features have zeros, change no logit: the gradient in H is then ``[r_i W, r_i V, r_i v_b]``.
        """
        W, H, b = map(_array, point)
        V_W, V_H, V_b = map(_array, v)
        K, d = W.shape
        columns = np.zeros((K, 1), W.dtype) if V_b is None else V_b[:, None]
        wide = np.hstack([H, np.zeros((len(H), d + 1), H.dtype)])
        _, gradient = uf.linear_cross_entropy(
            np.hstack([W, V_W, columns]), wide, _array(labels), b, reduction="sum", **self._options()
        )
        to_H = gradient[1]
        slopes = (to_H[:, :d] * V_H).sum(axis=1) + (to_H[:, d : 2 * d] * H).sum(axis=1) + to_H[:, 2 * d]
        return _like(point, slopes)

    def _options(self) -> dict[str, Any]:
        loss = self.loss
        if self.label_smoothing:
            if loss != "cross_entropy":
                raise ValueError(f"label_smoothing must be 0 for the loss {loss!r}: it is cross-entropy's")
            loss = uf.CrossEntropy(self.label_smoothing)
        return {"loss": loss, "ignore_index": self.ignore_index, "threads": self.threads}


def _by_sign(weights: Any) -> list[tuple[int, Any]]:
    """Take weights apart into non-negative ones."""
    if weights is None or weights.min(initial=0) >= 0:
        return [(1, weights)]
    return [(1, np.maximum(weights, 0)), (-1, np.maximum(-weights, 0))]


def _added(found: list[tuple[int, Any]]) -> Any:
    (_, parts), *others = found
    for sign, more in others:
        parts = tuple(None if x is None else x + sign * y for x, y in zip(parts, more, strict=True))
    return parts


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().contiguous().numpy()


def _tensor(array: Any) -> Tensor | None:
    return None if array is None else torch.from_numpy(array)


def _like(point: Parts, value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=point[0].dtype, device="cpu")
