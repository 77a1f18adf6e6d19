"""JAX primitives for a function, its derivatives and what is linear in them: how each is called and differentiated.

With the function ``sum_i w_i r_i(x)``, constants left out:

    loss(x, w)           its value                   rows(x, w)           w r, a number a row
    loss_and_grad(x, w)  value, and gradient in x    row_jvp(x, w, v)     w times the derivative of r along v
    hvp(x, w, v)         Hessian in x times v        row_hvp(x, w, v, u)  w times the second derivative along v and u

Each is linear in w, v and u, and the transpose of each in one of them is another one. Third derivatives are refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .functions import Function

Operands = Sequence[Any]


class Operation:
    """A primitive: calls a method of the function at once where operands are known, else when a program runs.

    Parameters
    ----------
    name : str
        Of the method.
    groups : str
        A letter for each group of operands after x and the constants: "w", or a direction "v" or "u".
    results : str
        "1" for a number, "N" for a row of numbers, "x" for arrays like x.
    along : callable
        The derivative along a tangent of x: ``along(out, function, x, constants, groups, tangent)``.
    """

    def __init__(self, name: str, groups: str, results: str, along: Callable[..., list[Any]]) -> None:
        self.name, self.groups, self.results, self.along = name, groups, results, along
        self.transposes: dict[str, Callable[..., list[Any]]] = {}
        self.primitive = Primitive(f"ufm_fast_{name}")
        self.primitive.multiple_results = True
        self.primitive.def_impl(self.at_once)
        self.primitive.def_abstract_eval(self.shapes)
        mlir.register_lowering(self.primitive, self.when_run)
        ad.primitive_jvps[self.primitive] = self.jvp
        ad.primitive_transposes[self.primitive] = self.transpose
        batching.primitive_batchers[self.primitive] = self.one_by_one

    def __call__(self, function: Function, x: Operands, constants: Operands, *groups: Operands) -> list[Any]:
        operands = [*x, *constants, *(operand for group in groups for operand in group)]
        found: list[Any] = self.primitive.bind(*operands, function=function)
        return found

    def split(self, operands: Operands, function: Function) -> tuple[tuple[Any, ...], ...]:
        """Return x, constants and the groups."""
        sizes = {"w": function.weights, "v": function.parameters, "u": function.parameters}
        ends = np.cumsum([function.parameters, function.constants, *(sizes[letter] for letter in self.groups)])
        return tuple(tuple(operands[start:end]) for start, end in itertools.pairwise([0, *ends]))

    def shapes(self, *operands: Any, function: Function) -> list[Any]:
        if any(map(_varying, operands)):
            raise NotImplementedError("ufm_fast.jax needs check_vma=False where it is called in jax.shard_map")
        x = operands[: function.parameters]
        shaped = {"1": [()], "N": [x[1].shape[:1]], "x": [part.shape for part in x]}
        return [jax.core.ShapedArray(shape, x[0].dtype) for letter in self.results for shape in shaped[letter]]

    def evaluate(self, function: Function, operands: Operands) -> list[Any]:
        arrays = [np.ascontiguousarray(operand) for operand in operands]
        found = getattr(function, self.name)(*self.split(arrays, function))
        return [np.asarray(result, arrays[0].dtype) for result in found]

    def at_once(self, *operands: Any, function: Function) -> list[Any]:
        return [jax.numpy.asarray(result) for result in self.evaluate(function, operands)]

    def when_run(self, context: Any, *operands: Any, function: Function) -> Any:
        """Have a compiled program call back, with NumPy arrays that are copies of its own.

        `jax.pure_callback` would turn them into JAX's arrays first, on a thread of the pool that this call occupies: on
        a machine with one core both would wait for each other.
        """

        def call(*arrays: Any) -> list[Any]:
            found = self.evaluate(function, arrays)
            if jax.dtypes.canonicalize_dtype(found[0].dtype) != found[0].dtype:
                raise RuntimeError("jax_enable_x64 must be on in all threads, by jax.config.update, not in a context")
            return found

        return mlir.emit_python_callback(
            context, call, None, operands, context.avals_in, context.avals_out, has_side_effect=False
        )[0]

    def jvp(self, primals: Operands, tangents: Operands, *, function: Function) -> tuple[list[Any], list[Any]]:
        x, constants, *groups = self.split(primals, function)
        of_x, of_constants, *of_groups = self.split(tangents, function)
        if not all(map(_is_zero, of_constants)):
            raise NotImplementedError("ufm_fast.jax has no derivative with respect to labels: use lax.stop_gradient")
        first = loss_and_grad if self is loss else self
        out = first(function, x, constants, *groups)
        terms = []
        for i, tangent in enumerate(of_groups):
            if not all(map(_is_zero, tangent)):
                moved = [*groups[:i], _instantiated(tangent), *groups[i + 1 :]]
                terms.append(self(function, x, constants, *moved))
        if not all(map(_is_zero, of_x)):
            terms.append(self.along(out, function, x, constants, groups, _instantiated(of_x)))
        return out[: len(terms[0])], [sum(parts[1:], parts[0]) for parts in zip(*terms, strict=True)]

    def transpose(self, cotangents: Operands, *operands: Any, function: Function) -> list[Any]:
        x, constants, *groups = self.split(operands, function)
        (i,) = (i for i, group in enumerate(groups) if any(map(ad.is_undefined_primal, group)))
        others = [group for j, group in enumerate(groups) if j != i]
        found = self.transposes[self.groups[i]](_instantiated(cotangents), function, x, constants, *others)
        wanted = [part if ad.is_undefined_primal(part) else None for part in groups[i]]
        results = [[None] * len(group) for group in (x, constants, *groups)]
        results[2 + i] = [None if part is None else found[j] for j, part in enumerate(wanted)]
        return [result for group in results for result in group]

    def one_by_one(self, operands: Operands, axes: Sequence[int | None], *, function: Function) -> Any:
        """Call it for one element of a batch after the other: at once if operands are known, else in a loop of JAX."""
        batched = [i for i, axis in enumerate(axes) if axis is not None]
        here = jax.numpy.zeros(())  # in a function that is being traced it is traced, too
        known = not any(isinstance(operand, jax.core.Tracer) for operand in (here, *operands))
        numpy: Any = np if known else jax.numpy
        moved = [numpy.moveaxis(numpy.asarray(operands[i]), axes[i], 0) for i in batched]

        def one(element: Operands) -> Any:
            all_operands = list(operands)
            for i, part in zip(batched, element, strict=True):
                all_operands[i] = part
            return self.primitive.bind(*all_operands, function=function)

        if known and len(moved[0]):
            found = [jax.numpy.stack(parts) for parts in zip(*map(one, zip(*moved, strict=True)), strict=True)]
        else:
            found = jax.lax.map(one, [jax.numpy.asarray(x) for x in moved])
        return found, [0] * len(found)


def _varying(operand: Any) -> Any:
    """Return the axes along which `jax.shard_map` knows that shards differ: it would take results for equal."""
    return getattr(operand.mat, "varying", None) if hasattr(operand, "mat") else getattr(operand, "vma", None)


def _is_zero(tangent: Any) -> bool:
    return type(tangent) is ad.Zero


def _instantiated(tangents: Operands) -> list[Any]:
    return [ad.instantiate_zeros(tangent) for tangent in tangents]


def _inner(a: Operands, b: Operands) -> Any:
    """Return the sum of the products of all entries."""
    products = []
    for left, right in zip(a, b, strict=True):
        axes = tuple(range(left.ndim))
        contracted = ((axes, axes), ((), ()))
        products.append(jax.lax.dot_general(left, right, contracted, precision=jax.lax.Precision.HIGHEST))
    return sum(products[1:], products[0])


def _all_rows(number: Any, x: Operands) -> list[Any]:
    return [jax.numpy.full(x[1].shape[:1], number, x[1].dtype)]


def _refused(*_: Any) -> list[Any]:
    raise NotImplementedError("ufm_fast.jax has first and second derivatives, but no third ones")


loss: Operation = Operation("loss", "w", "1", lambda out, f, x, c, groups, t: [_inner(out[1:], t)])
loss_and_grad: Operation = Operation(
    "loss_and_grad", "w", "1x", lambda out, f, x, c, groups, t: [_inner(out[1:], t), *hvp(f, x, c, *groups, t)]
)
hvp: Operation = Operation("hvp", "wv", "x", _refused)
rows: Operation = Operation("rows", "w", "N", lambda out, f, x, c, groups, t: row_jvp(f, x, c, *groups, t))
row_jvp: Operation = Operation("row_jvp", "wv", "N", lambda out, f, x, c, groups, t: row_hvp(f, x, c, *groups, t))
row_hvp: Operation = Operation("row_hvp", "wvu", "N", _refused)

loss.transposes["w"] = lambda ct, f, x, c: rows(f, x, c, _all_rows(ct[0], x))
loss_and_grad.transposes["w"] = lambda ct, f, x, c: [
    rows(f, x, c, _all_rows(ct[0], x))[0] + row_jvp(f, x, c, _all_rows(1, x), ct[1:])[0]
]
hvp.transposes["v"] = lambda ct, f, x, c, w: hvp(f, x, c, w, ct)
hvp.transposes["w"] = lambda ct, f, x, c, v: row_hvp(f, x, c, _all_rows(1, x), v, ct)
rows.transposes["w"] = lambda ct, f, x, c: rows(f, x, c, ct)
row_jvp.transposes["w"] = lambda ct, f, x, c, v: row_jvp(f, x, c, ct, v)
row_jvp.transposes["v"] = lambda ct, f, x, c, w: loss_and_grad(f, x, c, [w[0] * ct[0]])[1:]
row_hvp.transposes["w"] = lambda ct, f, x, c, v, u: row_hvp(f, x, c, ct, v, u)
row_hvp.transposes["v"] = lambda ct, f, x, c, w, u: hvp(f, x, c, [w[0] * ct[0]], u)
row_hvp.transposes["u"] = lambda ct, f, x, c, w, v: hvp(f, x, c, [w[0] * ct[0]], v)
