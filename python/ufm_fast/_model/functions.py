"""The functions of a model: loss, gradient and Hessian products, of points and of packed points."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._runtime import arguments as check
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import get_num_threads
from .packing import Layout
from .point import Point, checked_point

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .hessian import HessianOperator


class Functions:
    """Loss, gradient and Hessian products of a model that has a compiled problem."""

    layout: Layout
    dtype: np.dtype[Any]
    size: int
    threads: int | None
    _problem: Any
    _inline: bool

    def _run(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call the compiled problem; large problems get threads, and single-threaded BLAS for each of them."""
        if self._inline:
            return method(*arguments, 1)
        with single_threaded_blas():
            return method(*arguments, self.threads or get_num_threads())

    def loss(self, p: Point) -> float:
        """Evaluate f at p.

        Parameters
        ----------
        p : Point
            Shapes (K, d), (M, d), (K,), of the model's dtype, C-contiguous.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If p is not such a point, or holds a NaN or an infinity.
        FloatingPointError
            If f overflows at p.

        Notes
        -----
        Cost: one K x d x M product. No K x M array exists; logits live a tile at a time.
        """
        W, H, b = p
        value: float = self._run(self._problem.loss, W, H, b)
        return value

    def loss_and_grad(self, p: Point) -> tuple[float, Point]:
        """Evaluate f and its gradient at p; arguments and errors as in `loss`.

        Returns
        -------
        float
        Point
            The gradient.

        Notes
        -----
        Cost: three K x d x M products.
        """
        W, H, b = p
        value, grad_W, grad_H, grad_b = self._run(self._problem.loss_and_grad, W, H, b)
        return value, Point(grad_W, grad_H, grad_b)

    def hvp(self, p: Point, v: Point) -> Point:
        """Multiply the Hessian of f at p by v; arguments and errors as in `loss`.

        Notes
        -----
        Cost: seven K x d x M products. `hessian` gives an operator for repeated products at one point.
        """
        return Point(*self._run(self._problem.hvp, *p, *v))

    def hessian(self, p: Point, *, memory: int | None = None) -> HessianOperator:
        """Return the Hessian of f at p as a linear operator on packed points.

        Parameters
        ----------
        p : Point
        memory : int, optional
            Bytes it may use to make repeated products cheaper: where an M x K array fits, a product costs six matrix
            products instead of seven. None stands for a quarter of the free memory.

        Returns
        -------
        HessianOperator
            A `scipy.sparse.linalg.LinearOperator` of shape (size, size).

        Notes
        -----
        Of the methods of `scipy.optimize.minimize`, Newton-CG and trust-constr take the operator as ``hess``; trust-ncg
        and trust-krylov take `hessp`, and dogleg and trust-exact the matrix, ``hessian(p) @ numpy.eye(size)``.
        """
        from .hessian import HessianOperator

        x = self.pack(p)
        return HessianOperator(self.dtype, self.layout, self._problem, self._run, x, memory)

    def fun(self, x: ArrayLike) -> float:
        """Evaluate f at the packed point x, as scipy.optimize wants it.

        Parameters
        ----------
        x : array of real numbers, shape (size,) or (size, 1)
            A contiguous array of the model's dtype is used as it is, anything else is converted.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If x is not such an array (a complex or masked one, say), or holds a NaN or an infinity.
        FloatingPointError
            If f overflows at x.
        """
        value: float = self._run(self._problem.flat_loss, self._packed(x, "x"))
        return value

    def fun_and_grad(self, x: ArrayLike) -> tuple[float, NDArray[Any]]:
        """Evaluate f and its packed gradient at the packed point x: ``scipy.optimize.minimize(..., jac=True)``.

        Arguments and errors as in `fun`. The gradient has the model's dtype; SciPy's SLSQP takes none but float64.
        """
        value, gradient = self._run(self._problem.flat_loss_and_grad, self._packed(x, "x"))
        return value, gradient

    def hessp(self, x: ArrayLike, v: ArrayLike) -> NDArray[Any]:
        """Multiply the Hessian of f at the packed point x by the packed v; arguments and errors as in `fun`."""
        product: NDArray[Any] = self._run(self._problem.flat_hvp, self._packed(x, "x"), self._packed(v, "v"))
        return product

    def _packed(self, x: ArrayLike, name: str) -> NDArray[Any]:
        return check.real_vector(x, name, self.size, self.dtype)

    def pack(self, p: Point) -> NDArray[Any]:
        """Copy a point into one vector of length `size`: W, H and, where there is a bias, b, in C order."""
        return self.layout.pack(*checked_point(p, self.layout, self.dtype))

    def unpack(self, x: ArrayLike) -> Point:
        """Return the point whose arrays are views of the packed x (b is a new array of zeros without bias).

        They are views of a copy where x is not a contiguous array of the model's dtype; errors as in `fun`.
        """
        return Point(*self.layout.unpack(self._packed(x, "x")))


def gradient_gram(ufm: Functions, p: Point) -> NDArray[Any]:
    """Return G^T G (K, K) of the gradient matrix G (M, K), without forming G."""
    gram: NDArray[Any] = ufm._run(ufm._problem.gradient_gram, *p)
    return gram


def gradient_product(ufm: Functions, p: Point, X: NDArray[Any]) -> NDArray[Any]:
    """Return G X for a C-contiguous X (K, columns), without forming G."""
    product: NDArray[Any] = ufm._run(ufm._problem.gradient_product, *p, X)
    return product
