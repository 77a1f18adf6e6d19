"""The derivatives of a term: of its value, of its gradient times a number, and of its Hessian's product.

Each is a function for PyTorch, and linear in what it multiplies, so that first and second derivatives come by reverse
and by forward mode, nested in any order but forward over forward.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.forward_ad import unpack_dual
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from .compiled import Opaque, opaque
from .terms import Data, Parts, RowTerm, Term

_THIRD = "the loss has a first and a second derivative here, but no third"
_FORWARD_TWICE = (
    "forward mode cannot be nested in forward mode here, because PyTorch drops the outer derivative: "
    "take one of the two by reverse mode, as torch.func.jvp of torch.func.grad does"
)

_CONSTANT = "labels and weights are constants here, which have no derivative"
_ROWS_TWICE = "the second derivative of the losses of rows is not available by forward mode: take it by reverse mode"


class Call:
    """One application of a function to a term: the gradient there, and whether forward mode has passed it.

    The gradient is no saved tensor, so that the backward pass can give it away without a copy. Of nested levels of
    forward mode the outer one comes first, and PyTorch leaves its part out of what it asks for the inner one.
    """

    def __init__(
        self, term: Term, *, wants_gradient: bool = False, gradient: Parts | None = None, batch: Call | None = None
    ) -> None:
        self._term, self.wants_gradient, self.batch, self.passed = term, wants_gradient, batch, False
        self._kept: list[Parts | None] = [gradient]

    @property
    def term(self) -> Term:
        """The term; by operators where tensors may be traced, of which NumPy would make constants."""
        return opaque(self._term) if is_in_torch_dispatch_mode() else self._term

    def evaluate(self, data: Data, point: Parts) -> Tensor:
        """Return the value, and keep the gradient, if it will be wanted."""
        if not self.wants_gradient:
            return self.term.value(data, point)
        value, *gradient = self.term.value_and_gradient(data, point)
        self.keep(gradient)
        return value

    def keep(self, gradient: Parts | None) -> None:
        """Keep the gradient."""
        self._kept.append(gradient)

    def take(self) -> Parts | None:
        """Return the gradient, if it is there: to one of several threads alone."""
        try:
            return self._kept.pop()
        except IndexError:
            return None

    def pass_forward(self) -> None:
        """Raise an error at the second level of forward mode."""
        if self.passed:
            raise RuntimeError(_FORWARD_TWICE)
        call: Call | None = self
        while call is not None:
            call.passed, call = True, call.batch


class _AsGiven(inspect.Signature):
    """A signature that lets arguments pass: PyTorch binds them at every call, for which a common one takes 10 µs."""

    def bind(self, *inputs: Any) -> Any:
        return _Arguments(inputs)


class _Arguments:
    def __init__(self, args: tuple[Any, ...]) -> None:
        self.args = args
        self.kwargs: dict[str, Any] = {}

    def apply_defaults(self) -> None:
        pass


class _Rule(Function):  # type: ignore[misc]  # mypy does not see torch
    """A function of a call and of tensors or None, which it keeps, with a tuple of outputs.

    For vmap it is called for one entry after the other.
    """

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _keep(ctx, inputs)

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, call: Call, *inputs: Any) -> Any:
        entries = [
            cls.apply(
                Call(call.term, wants_gradient=call.wants_gradient, batch=call),
                *(x if dim is None else x.select(dim, i) for x, dim in zip(inputs, in_dims[1:], strict=True)),
            )
            for i in range(info.batch_size)
        ]
        outputs = tuple(None if parts[0] is None else torch.stack(parts) for parts in zip(*entries, strict=True))
        return outputs, tuple(None if part is None else 0 for part in outputs)


class Value(_Rule):
    """The value, given labels, weights, W, H and b."""

    @staticmethod
    def forward(call: Call, *inputs: Any) -> Any:
        return (call.evaluate(inputs[:2], inputs[2:]),)

    @staticmethod
    def backward(ctx: Any, a: Tensor | None) -> Any:
        return None, None, None, *((None,) * 3 if a is None else _gradient(ctx, a))

    @staticmethod
    def jvp(ctx: Any, _: Any, *v: Any) -> Any:
        ctx.call.pass_forward()
        _refuse(v[:2], _CONSTANT)
        return (_along(ctx, v[2:]),)


class Gradient(_Rule):
    """The gradient times a number, which comes after W, H and b."""

    @staticmethod
    def forward(call: Call, *inputs: Any) -> Any:
        data, point, a = inputs[:2], inputs[2:5], inputs[5]
        gradient = call.take()
        if gradient is None:
            gradient = call.term.value_and_gradient(data, point)[1:]
        return _scaled(call.term, a, point, gradient)

    @staticmethod
    def backward(ctx: Any, *u: Any) -> Any:
        a, needed = ctx.saved_tensors[5], ctx.needs_input_grad
        to_weights = a * _rows_along(ctx, u) if needed[2] else None
        to_a = _along(ctx, u) if needed[6] else None
        return None, None, to_weights, *_times(a, _product(ctx, u)), to_a

    @staticmethod
    def jvp(ctx: Any, _: Any, *v: Any) -> Any:
        ctx.call.pass_forward()
        _refuse(v[:1], _CONSTANT)
        labels, _, *point, a = ctx.saved_tensors
        moved = _times(a, _product(ctx, v[2:5]))
        if v[1] is not None:
            moved = _sum(moved, _new_gradient(ctx.call.term, labels, v[1], point, a))
        return moved if v[5] is None else _sum(moved, _differentiable(ctx, v[5]))


class Product(_Rule):
    """The Hessian's product with a direction, whose parts come after W, H and b."""

    @staticmethod
    def forward(call: Call, *inputs: Any) -> Any:
        return call.term.product(inputs[:2], inputs[2:5], inputs[5:])

    @staticmethod
    def backward(ctx: Any, *u: Any) -> Any:
        return (None,) * 6 + _product(ctx, u)

    @staticmethod
    def jvp(ctx: Any, _: Any, *v: Any) -> Any:
        ctx.call.pass_forward()
        _refuse(v[1:5], _THIRD)
        return _product(ctx, v[5:])


class RowValues(_Rule):
    """The losses of rows, given labels, weights, W, H and b."""

    @staticmethod
    def forward(call: Call, *inputs: Any) -> Any:
        return (call.term.value(inputs[:2], inputs[2:]),)

    @staticmethod
    def backward(ctx: Any, c: Tensor | None) -> Any:
        if c is None:
            return (None,) * 6
        labels, weights, *point = ctx.saved_tensors
        return None, None, None, *_new_gradient(ctx.call.term.summed(), labels, _both(c, weights), point)

    @staticmethod
    def jvp(ctx: Any, _: Any, *v: Any) -> Any:
        ctx.call.pass_forward()
        _refuse(v[:2], _CONSTANT)
        along = _rows_along(ctx, v[2:])
        weights = ctx.saved_tensors[1]
        return (along if weights is None else along * weights,)


class RowsAlong(_Rule):
    """The derivatives of the losses of rows along a direction, given labels, W, H, b and the direction's parts."""

    @staticmethod
    def forward(call: Call, *inputs: Any) -> Any:
        term: Any = call.term
        return (term.along(inputs[0], inputs[1:4], inputs[4:]),)

    @staticmethod
    def backward(ctx: Any, c: Tensor | None) -> Any:
        if c is None:
            return (None,) * 8
        term, (labels, *parts) = ctx.call.term.summed(), ctx.saved_tensors
        to_point = _new_product(term, labels, c, parts[:3], parts[3:])
        return None, None, *to_point, *_new_gradient(term, labels, c, parts[:3])

    @staticmethod
    def jvp(ctx: Any, _: Any, *v: Any) -> Any:
        ctx.call.pass_forward()
        _refuse(v[1:4], _ROWS_TWICE)
        labels, *point = ctx.saved_tensors[:4]
        return (_new_along(ctx.call.term, labels, point, v[4:]),)


class _Fixed(_Rule):
    """Tensors of which a derivative would be the third."""

    @staticmethod
    def forward(call: Call, *tensors: Any) -> Any:
        return tuple(None if tensor is None else tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(_THIRD)

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(_THIRD)


for _rule in (Value, Gradient, Product, RowValues, RowsAlong, _Fixed):
    _rule.forward.__signature__ = _AsGiven()  # type: ignore[attr-defined]


def _keep(ctx: Any, inputs: tuple[Any, ...]) -> None:
    ctx.call, *tensors = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _refuse(tangents: Any, reason: str) -> None:
    if any(tangent is not None for tangent in tangents):
        raise RuntimeError(reason)


def _gradient(ctx: Any, a: Tensor) -> Any:
    """Return the gradient times a number at the point of a context of `Value`."""
    point = ctx.saved_tensors[2:5]
    if torch.is_grad_enabled() or any(map(_is_dual, (*point, a))):
        return _differentiable(ctx, a)
    gradient = ctx.call.take()  # which another backward pass has to compute again
    return _differentiable(ctx, a) if gradient is None else _scaled(ctx.call.term, a, point, gradient, in_place=True)


def _differentiable(ctx: Any, a: Tensor) -> Any:
    gradient = ctx.call.take()
    found = Gradient.apply(Call(ctx.call.term, gradient=gradient), *ctx.saved_tensors[:5], a)
    ctx.call.keep(gradient)
    return found


def _new_gradient(term: Term, labels: Any, weights: Tensor, point: Any, a: Tensor | None = None) -> Any:
    """Return the gradient of the sum of the rows' losses times weights, computed now."""
    one = point[0].new_ones(()) if a is None else a
    return Gradient.apply(Call(term), labels, weights, *point, one)


def _along(ctx: Any, v: Any) -> Tensor | None:
    """Return the derivative of the value along a direction there, None along none."""
    gradient = _differentiable(ctx, ctx.saved_tensors[2].new_ones(()))
    products = [(part * direction).sum() for part, direction in zip(gradient, v, strict=True) if direction is not None]
    return torch.stack(products).sum() if products else None


def _rows_along(ctx: Any, v: Any) -> Any:
    """Return the derivatives of the losses of rows, without weights, along a direction there."""
    labels, _, *point = ctx.saved_tensors[:5]
    return _new_along(ctx.call.term, labels, point, v)


def _new_along(term: RowTerm, labels: Any, point: Any, v: Any) -> Any:
    return RowsAlong.apply(Call(term), labels, *point, *_filled(v, point))[0]


def _product(ctx: Any, v: Any) -> Any:
    """Return the Hessian's product with a direction there."""
    labels, weights, *point = ctx.saved_tensors[:5]
    return _new_product(ctx.call.term, labels, weights, point, v)


def _new_product(term: Term, labels: Any, weights: Any, point: Any, v: Any) -> Any:
    if all(part is None for part in v):
        return None, None, None
    return Product.apply(Call(term), labels, *_Fixed.apply(Call(term), weights, *point), *_filled(v, point))


def _filled(v: Any, point: Any) -> Any:
    """Put zeros in the place of parts that are missing."""
    return (torch.zeros_like(x) if part is None and x is not None else part for x, part in zip(point, v, strict=True))


def _is_dual(tensor: Tensor | None) -> bool:
    return tensor is not None and unpack_dual(tensor).tangent is not None


def _both(c: Tensor, weights: Tensor | None) -> Tensor:
    return c if weights is None else c * weights


def _scaled(term: Term, a: Tensor, point: Any, gradient: Any, *, in_place: bool = False) -> Any:
    """Return the gradient at a point times a number, in compiled code by an operator that has the point.

    By that PyTorch knows that the compiled gradient depends on it, and refuses the second derivative: it would be zero.
    """
    if isinstance(term, Opaque):
        return term.scaled(a, point, gradient)
    if not in_place:
        return _times(a, gradient)
    if a.item() != 1:
        for part in gradient:
            if part is not None:
                part.mul_(a)
    return tuple(gradient)


def _times(a: Tensor, parts: Any) -> Any:
    return tuple(None if part is None else a * part for part in parts)


def _sum(x: Any, y: Any) -> Any:
    return tuple(b if a is None else a + b for a, b in zip(x, y, strict=True))
