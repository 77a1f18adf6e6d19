"""A term while PyTorch compiles or traces: operators that it does not look into, which find the term by a number."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .terms import Data, Parts, Term

_terms: dict[int, Any] = {}  # compiled code may ask for them as long as the process lives
_lock = threading.Lock()  # of what is looked through and added to it


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]  # mypy does not see torch
def number_of(kind: type, *arguments: object) -> int:
    """Return the number of the term ``kind(*arguments)``, when the call is compiled."""
    return _number(kind(*arguments))


def _number(term: Term) -> int:
    """Return the number of a term: a random one, so that code that was compiled in another process finds none."""
    with _lock:
        for number, known in _terms.items():
            if known == term:
                return number
        number = secrets.randbits(62)
        _terms[number] = term
        return number


def opaque(term: Term) -> Opaque:
    """Return the term by operators."""
    return term if isinstance(term, Opaque) else Opaque(_number(term))


def _term(number: int) -> Any:
    if number not in _terms:
        raise RuntimeError("ufm_fast.torch: this was compiled or exported in another process; do it again in this one")
    return _terms[number]


class Opaque(NamedTuple):
    """The term of this number, by operators."""

    number: int

    @property
    def of_rows(self) -> bool:
        return bool(_term(self.number).of_rows)

    def summed(self) -> Opaque:
        return Opaque(_number(_term(self.number).summed()))

    def value(self, data: Data, point: Parts) -> Tensor:
        return _value(self.number, *data, *point)

    def value_and_gradient(self, data: Data, point: Parts) -> Parts:
        return _unpacked(_value_and_gradient(self.number, *data, *point), 4)

    def scaled(self, a: Tensor, point: Parts, gradient: Parts) -> Parts:
        return _unpacked(_scaled(a, *point, *gradient), 3)

    def product(self, data: Data, point: Parts, v: Parts) -> Parts:
        return _unpacked(_product(self.number, *data, *point, *v), 3)

    def along(self, labels: Tensor | None, point: Parts, v: Parts) -> Tensor:
        return _along(self.number, labels, *point, *v)


def _unpacked(tensors: Sequence[Tensor], count: int) -> Parts:
    return (*tensors, None) if len(tensors) < count else tuple(tensors)


def _packed(parts: Parts) -> list[Tensor]:
    return [part for part in parts if part is not None]


@torch.library.custom_op("ufm_fast::value", mutates_args=())  # type: ignore[untyped-decorator]
def _value(
    number: int, labels: Tensor | None, weights: Tensor | None, W: Tensor, H: Tensor, b: Tensor | None
) -> Tensor:
    return _term(number).value((labels, weights), (W, H, b))


@_value.register_fake  # type: ignore[untyped-decorator]
def _(number: int, labels: Any, weights: Any, W: Tensor, H: Tensor, b: Any) -> Tensor:
    return W.new_empty(H.shape[:1] if _term(number).of_rows else ())


@torch.library.custom_op("ufm_fast::value_and_gradient", mutates_args=())  # type: ignore[untyped-decorator]
def _value_and_gradient(
    number: int, labels: Tensor | None, weights: Tensor | None, W: Tensor, H: Tensor, b: Tensor | None
) -> list[Tensor]:
    return _packed(_term(number).value_and_gradient((labels, weights), (W, H, b)))


@_value_and_gradient.register_fake  # type: ignore[untyped-decorator]
def _(number: int, labels: Any, weights: Any, W: Tensor, H: Tensor, b: Any) -> list[Tensor]:
    return [W.new_empty(()), *_empty(W, H, b)]


@torch.library.custom_op("ufm_fast::scaled", mutates_args=())  # type: ignore[untyped-decorator]
def _scaled(
    a: Tensor, W: Tensor, H: Tensor, b: Tensor | None, to_W: Tensor, to_H: Tensor, to_b: Tensor | None
) -> list[Tensor]:
    return [a * part for part in _packed((to_W, to_H, to_b))]


@_scaled.register_fake  # type: ignore[untyped-decorator]
def _(a: Any, W: Tensor, H: Tensor, b: Any, to_W: Any, to_H: Any, to_b: Any) -> list[Tensor]:
    return _empty(W, H, b)


@torch.library.custom_op("ufm_fast::product", mutates_args=())  # type: ignore[untyped-decorator]
def _product(
    number: int,
    labels: Tensor | None,
    weights: Tensor | None,
    W: Tensor,
    H: Tensor,
    b: Tensor | None,
    V_W: Tensor,
    V_H: Tensor,
    V_b: Tensor | None,
) -> list[Tensor]:
    return _packed(_term(number).product((labels, weights), (W, H, b), (V_W, V_H, V_b)))


@_product.register_fake  # type: ignore[untyped-decorator]
def _(number: int, labels: Any, weights: Any, W: Any, H: Any, b: Any, V_W: Any, V_H: Any, V_b: Any) -> list[Tensor]:
    return _empty(W, H, b)


@torch.library.custom_op("ufm_fast::along", mutates_args=())  # type: ignore[untyped-decorator]
def _along(
    number: int,
    labels: Tensor | None,
    W: Tensor,
    H: Tensor,
    b: Tensor | None,
    V_W: Tensor,
    V_H: Tensor,
    V_b: Tensor | None,
) -> Tensor:
    return _term(number).along(labels, (W, H, b), (V_W, V_H, V_b))


@_along.register_fake  # type: ignore[untyped-decorator]
def _(number: int, labels: Any, W: Any, H: Tensor, b: Any, V_W: Any, V_H: Any, V_b: Any) -> Tensor:
    return H.new_empty(H.shape[:1])


def _empty(*parts: Tensor | None) -> list[Tensor]:
    return [part.new_empty(part.shape) for part in parts if part is not None]
