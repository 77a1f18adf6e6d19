"""The model in isometric coordinates (W, sqrt(ridge_i) h_i, b), with eigenvalues of the full-sample Hessian.

And the two operators at a point of it whose lowest eigenpairs are asked for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._runtime import core
from .._runtime.arrays import Array
from .._runtime.memory import spares
from .._runtime.threads import get_num_threads
from .model import UFM
from .packing import Layout
from .point import Point


class IsometricProblem:
    """A model's problem on features scaled by the square roots of the rows' ridges, at any width, in float64."""

    def __init__(self, ufm: UFM) -> None:
        self.ufm, self.K, self.M, self.bias, self.biases = ufm, ufm.layout.K, ufm.M, ufm.bias, ufm.layout.biases
        self.root: Array = np.sqrt(ufm.data.ridges)
        self.threads = ufm.threads or get_num_threads()
        self.stores = spares(8 * ufm.M * ufm.K)

    def coordinates(self, p: Point) -> Point:
        """Return W, sqrt(ridge_i) h_i and b in float64."""
        return Point(p.W.astype(float), p.H.astype(float) * self.root[:, None], p.b.astype(float))

    def plain(self, v: Point) -> Point:
        """Undo `coordinates`, in the model's dtype."""
        dtype = self.ufm.dtype
        return Point(v.W.astype(dtype), (v.H / self.root[:, None]).astype(dtype), v.b.astype(dtype))

    def compiled(self, columns: int) -> Any:
        """Return the problem with this many feature dimensions, for the compiled core."""
        ufm = self.ufm
        return ufm.data.compiled(
            ufm.loss_function,
            ufm.K,
            columns,
            scales=1 / self.root,
            ridges=np.full(ufm.M, ufm.lambda_H),
            lambda_W=ufm.lambda_W,
            lambda_b=ufm.lambda_b,
            bias=ufm.bias,
        )

    def layout(self, columns: int) -> Layout:
        """Return the layout of a flat vector with this many feature dimensions."""
        return Layout(self.K, self.M, columns, self.bias, self.biases)

    def run(self, function: Any, *arguments: Any, **options: Any) -> Any:
        """Call the compiled core with this model's threads."""
        return function(*arguments, **options, threads=self.threads)


class HessianAt:
    """The Hessian at a point on flat vectors; with `deflate`, across the rotations (W S, H S), S skew.

    The columns of W on top of H must be orthogonal to each other then.
    """

    def __init__(self, problem: IsometricProblem, p: Point, deflate: bool) -> None:
        self.problem, self.p, self.deflate = problem, p, deflate
        self.columns = p.W.shape[1]
        self.compiled = problem.compiled(self.columns)
        layout = problem.layout(self.columns)
        ends = [0, layout.end_W, layout.end_H, layout.size]
        self.kinds = [slice(*ends[i : i + 2]) for i in range(2 + problem.bias)]
        self.squares = (p.W**2).sum(axis=0) + (p.H**2).sum(axis=0)
        i, j = np.triu_indices(self.columns if deflate else 0, 1)
        present = self.squares[i] + self.squares[j] > 0
        self.planes = i[present], j[present]
        self.dimension = ends[-1] - int(present.sum())

    def matrix(self) -> Array:
        x, identity = self.problem.layout(self.columns).pack(*self.p), np.eye(self.kinds[-1].stop)
        H: Array = self.problem.run(self.compiled.flat_hvps, x, identity, None)
        H = (H + H.T) / 2
        return _without(H, self._rotations()) if self.deflate else H

    def search(
        self, start: Array, count: int, guards: int, basis: int, tolerance: float, max_products: int
    ) -> tuple[Array, Array, int, float, bool]:
        found: tuple[Array, Array, int, float, bool] = self.problem.run(
            core.hessian_eigenpairs, self.compiled, *self.p, start, count, guards=guards, basis=basis,
            tolerance=tolerance, max_products=max_products, store=self.problem.stores, deflate=self.deflate,
        )  # fmt: skip
        return found

    def _rotations(self) -> Array:
        """Return orthonormal tangents to the rotations, as flat vectors in rows."""
        (i, j), (W, H, b) = self.planes, self.p
        each = np.arange(len(i))
        parts = []
        for X in (W, H):
            tangents = np.zeros((len(i), *X.shape))
            tangents[each, :, j] = X.T[i]
            tangents[each, :, i] = -X.T[j]
            parts.append(tangents.reshape(len(i), X.size))
        if self.problem.bias:
            parts.append(np.zeros((len(i), len(b))))
        rows: Array = np.hstack(parts) / np.sqrt(self.squares[i] + self.squares[j])[:, None]
        return rows


class GradientAt:
    """-G^T G of the gradient matrix G (M, K) at a point, across the orthonormal columns of `without`."""

    def __init__(self, problem: IsometricProblem, p: Point, without: Array) -> None:
        self.problem, self.p, self.without = problem, p, np.ascontiguousarray(without.T)
        self.compiled = problem.compiled(p.W.shape[1])
        self.kinds = [slice(0, problem.K)]
        self.dimension = problem.K - len(self.without)

    def matrix(self) -> Array:
        gram: Array = self.problem.run(self.compiled.gradient_gram, *self.p)
        return _without(-gram, self.without)

    def search(
        self, start: Array, count: int, guards: int, basis: int, tolerance: float, max_products: int
    ) -> tuple[Array, Array, int, float, bool]:
        found: tuple[Array, Array, int, float, bool] = self.problem.run(
            core.gradient_eigenpairs, self.compiled, *self.p, self.without, start, count, guards=guards, basis=basis,
            tolerance=tolerance, max_products=max_products, store=self.problem.stores,
        )  # fmt: skip
        return found

    def images(self, right: Array) -> Array:
        """Return G times each row."""
        product: Array = self.problem.run(self.compiled.gradient_product, *self.p, np.ascontiguousarray(right.T))
        return product.T


def _without(A: Array, Q: Array) -> Array:
    """Compress a symmetric matrix to the complement of the orthonormal rows of Q; there, its eigenvalues are above."""
    above = np.abs(A).sum(axis=0).max()
    A = A - (A @ Q.T) @ Q
    compressed: Array = A + Q.T @ (above * Q - Q @ A)
    return compressed
