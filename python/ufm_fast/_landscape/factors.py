"""The class problem as a smooth function of factors with any number of columns, for Newton's method."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .._model.canonical import ClassProblem
from .._model.model import UFM
from .._numerics.newton import Array
from .._runtime.blas import gram, product


class Factors:
    """F(A, B, b) of `ClassProblem` with A and B of shape (K, columns), on the flat vector (A, B, b).

    The preconditioner inverts (w B^T B + tau I) x I for A and (w A^T A + tau I) x I for B, with w the mean curvature of
    the data term (scaled gradient descent, Tong, Ma and Chi, arXiv:2005.08898, with the ridge added).
    """

    def __init__(self, ufm: UFM, columns: int) -> None:
        self.q = q = ClassProblem(ufm._in_double(collapse=True, d=columns))
        self.columns = columns
        self._half = q.K * columns
        self._evaluated: tuple[Array | None, Array] = None, np.empty(0)
        self._at: tuple[Array, Array, Array, Array, Any, Any, Array]

    def split(self, x: Array) -> tuple[Array, Array, Array]:
        """A, B and b as views of x; zeros for b without a bias."""
        shape = (self.q.K, self.columns)
        A, B = x[: self._half].reshape(shape), x[self._half : 2 * self._half].reshape(shape)
        return A, B, x[2 * self._half :] if self.q.bias else np.zeros(self.q.K)

    def join(self, A: Array, B: Array, b: Array) -> Array:
        """Make one vector of A, B and, where there is one, b."""
        return np.concatenate([A.ravel(), B.ravel(), b] if self.q.bias else [A.ravel(), B.ravel()])

    def scale(self, x: Array) -> float:
        """tau |(A, B)|, the size of either of the two terms that cancel in the gradient."""
        return self.q.tau * float(np.linalg.norm(x[: 2 * self._half]))

    def value_and_gradient(self, x: Array) -> tuple[float, Array]:
        """Three K x columns x K products."""
        q = self.q
        A, B, b = self.split(x)
        value, G, gradient = q.evaluate(A, B, b, product(B, A.T, q.workers))
        self._evaluated = x, G
        return value, gradient[: x.size]

    def linearize(self, x: Array) -> None:
        """Keep the gradient matrix, the probabilities and the preconditioner of x."""
        q = self.q
        A, B, b = self.split(x)
        last, G = self._evaluated
        if last is not x:
            _, G, _ = q.data_term(product(B, A.T, q.workers), b)
        if q.loss.name == "mse":
            curvature = P = np.ones((q.K, q.K))
        else:
            P = q.probabilities(G)
            curvature = P * (1 - P)
        weight, ridge = curvature.mean() / q.N, q.tau * np.eye(self.columns)
        for_A, for_B = (np.linalg.inv(weight * gram(X, q.workers) + ridge) for X in (B, A))
        self._at = A, B, G, P, for_A, for_B, q.weights @ curvature + max(q.lambda_b, 1e-12)

    def product(self, v: Array) -> Array:
        """Hessian times v: six products."""
        q = self.q
        A, B, G, P, *_ = self._at
        VA, VB, Vb = self.split(v)
        times = partial(product, threads=q.workers)
        dZ = (times(B, VA.T) + times(VB, A.T)) / q.root[:, None] + Vb
        if q.loss.name == "cross_entropy":
            dZ = P * (dZ - (P * dZ).sum(axis=1, keepdims=True))
        dG = dZ * (q.root / q.N)[:, None]
        return self.join(
            times(dG.T, B) + times(G.T, VB) + q.tau * VA,
            times(dG, A) + times(G, VA) + q.tau * VB,
            q.weights @ dZ + q.lambda_b * Vb,
        )

    def precondition(self, gradient: Array) -> Array:
        """Two products of a K x columns with a square matrix."""
        *_, for_A, for_B, for_b = self._at
        gA, gB, gb = self.split(gradient)
        return self.join(product(gA, for_A, self.q.workers), product(gB, for_B, self.q.workers), gb / for_b)
