"""The canonical problem as a smooth function of factors with any number of columns, for Newton's method."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._model.canonical import CanonicalProblem
from .._model.model import UFM, in_double
from .._model.packing import Layout
from .._runtime.arrays import Array
from .._runtime.blas import product
from .kronecker import KroneckerSides


class FactoredObjective:
    """F(A, B, b) of `CanonicalProblem` with A and B of this many columns, on the flat vector (A, B, b).

    The preconditioner is the inverse of `KroneckerSides`. `evaluations` and `products` count the work, the latter in
    products of a K x columns with a columns x M matrix.
    """

    def __init__(self, ufm: UFM, columns: int) -> None:
        self.problem = CanonicalProblem(in_double(ufm, collapse=True, d=columns))
        self.layout = Layout(self.problem.K, self.problem.M, columns, self.problem.bias, self.problem.biases)
        self.evaluations = self.products = 0
        self._evaluated: tuple[Array | None, Array] = None, np.empty(0)
        self._at: tuple[Array, KroneckerSides]
        self._states: Any = None

    def scale(self, x: Array) -> float:
        """tau |(A, B)|, the size of either of the two terms that cancel in the gradient."""
        return self.problem.tau * float(np.linalg.norm(x[: self.layout.end_H]))

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Three K x columns x M products."""
        problem = self.problem
        self.evaluations += 1
        self.products += 3
        A, B, b = self.layout.unpack(x)
        value, G, gradient = problem.evaluate(A, B, b, product(B, A.T, problem.workers))
        self._evaluated = x, G
        return value, gradient[: x.size]

    def linearize(self, x: Array) -> None:
        """Keep x and its preconditioner; Hessian products make what else they need."""
        problem = self.problem
        A, B, b = self.layout.unpack(x)
        last, G = self._evaluated
        if last is not x:
            _, G, _ = problem.data_term(product(B, A.T, problem.workers), b)
        self._states = None
        self._at = x, KroneckerSides.at(problem, A, B, G)

    def hessian_product(self, v: Array) -> Array:
        """Hessian times v: six products, and one more for the first v."""
        problem, (x, _) = self.problem, self._at
        self.products += 6
        if self._states is None:
            self._states = problem.core.row_states(*self.layout.unpack(x), problem.workers)
        image: Array = problem.core.flat_hvps(x, v[:, None], self._states, problem.workers)[0]
        return image

    def precondition(self, gradient: Array) -> Array:
        """Four products of a matrix of this many columns with a square one."""
        problem, (_, sides) = self.problem, self._at
        out = np.empty_like(gradient)
        (gA, gB, gb), (A, B, b) = self.layout.unpack(gradient), self.layout.unpack(out)
        sides.apply(problem, gA, gB, A, B)
        if problem.bias:
            b[:] = gb / (sides.bias + max(problem.lambda_b, 1e-12))
        return out
