"""The functions of a model: loss, gradient and Hessian products, of points and of packed points."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._runtime import arguments as check
from .._runtime import core
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import get_num_threads
from .packing import Layout
from .point import Point, checked_point, parts_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from .hessian import HessianOperator
    from .loss import Loss
    from .rotations import RotationProjector
    from .rows import Rows

_COORDINATES = ("packed", "samples")
_OVERFLOW = ("raise", "inf")


class Functions:
    """Loss, gradient and Hessian products of a model, or of a shard of one, by a compiled problem."""

    K: int
    d: int
    M: int
    loss_function: Loss
    lambda_W: float
    lambda_H: float
    lambda_b: float
    bias: bool
    dtype: np.dtype[Any]
    threads: int | None
    layout: Layout
    data: Rows
    size: int
    _problem: Any
    _inline: bool

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what makes the model, and nothing once it is compiled: the core would not notice."""
        if "_inline" in self.__dict__:
            raise AttributeError(f"{name} cannot be set: a {type(self).__name__} stays as it was made; make another")
        super().__setattr__(name, value)

    def _compile(self, rows: Rows) -> None:
        """Make the layout of points and the compiled problem from rows and the options above."""
        outputs, biases = self.loss_function.outputs(self.K), self.loss_function.biases(self.K)
        self.data, self.M = rows, rows.M
        self.layout = Layout(outputs, self.M, self.d, self.bias, biases)
        self.size = self.layout.size
        self._problem = rows.compiled(
            self.loss_function,
            self.K,
            self.d,
            scales=np.ones(self.M),
            ridges=rows.ridges * self.lambda_H,
            lambda_W=self.lambda_W,
            lambda_b=self.lambda_b,
            bias=self.bias,
            dtype=self.dtype,
        )
        self._inline = outputs * self.d * self.M <= core.small_product

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

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(2, 2, lambda_W=1e-2, lambda_H=1e-2)
        >>> zero = uf.Point(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2))
        >>> bool(np.isclose(ufm.loss(zero), np.log(2)))
        True
        """
        W, H, b = parts_of(p)
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

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(3, 3, [4, 2, 1], lambda_W=0.02, lambda_H=0.01)
        >>> value, gradient = ufm.loss_and_grad(uf.global_minimum(ufm).point)
        >>> bool(max(abs(part).max() for part in gradient) < 1e-6)
        True
        """
        W, H, b = parts_of(p)
        value, grad_W, grad_H, grad_b = self._run(self._problem.loss_and_grad, W, H, b)
        return value, Point(grad_W, grad_H, grad_b)

    def hvp(self, p: Point, v: Point) -> Point:
        """Multiply the Hessian of f at p by v; arguments and errors as in `loss`.

        Notes
        -----
        Cost: seven K x d x M products. `hessian` gives an operator for repeated products at one point.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(3, 3, [4, 2, 1], lambda_W=0.02, lambda_H=0.01)
        >>> p, v = ufm.random_point(seed=0), ufm.random_point(seed=1)
        >>> bool(np.allclose(ufm.pack(ufm.hvp(p, v)), ufm.hessian(p) @ ufm.pack(v)))
        True
        """
        return Point(*self._run(self._problem.hvp, *parts_of(p), *parts_of(v, "v")))

    @property
    def metric(self) -> NDArray[Any]:
        """The inner product of the full-sample problem on packed points, (size,): 1 for W and b, ridges for rows of H.

        A row that stands for n_k samples counts n_k times. Solvers of ``A v = s B v`` with the Hessian as A and this as
        the diagonal of B find the eigenvalues that `classify` and `lowest_eigenpairs` report.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> uf.UFM(2, 1, [4, 1], lambda_W=0.02, lambda_H=0.01).metric
        array([1., 1., 4., 1., 1., 1.])
        """
        metric = np.ones(self.size, self.dtype)
        metric[self.layout.end_W : self.layout.end_H] = np.repeat(self.data.ridges, self.layout.columns)
        return metric

    def hessian(
        self, p: Point, *, coordinates: Literal["packed", "samples"] = "packed", memory: int | None = None
    ) -> HessianOperator:
        """Return the Hessian of f at p as a linear operator on vectors of length `size`.

        Parameters
        ----------
        p : Point
        coordinates : {"packed", "samples"}, optional
            Of the vectors. "packed": those of `pack`, in which `fun_and_grad` has its gradient; what minimisers want.
            "samples": multiplied by the square roots of `metric`, in which lengths and eigenvalues are those of the
            full-sample problem, as `classify` and `lowest_eigenpairs` report them; what eigen-solvers want. The two are
            the same where every row stands for one sample.
        memory : int, optional
            Bytes it may use to make repeated products cheaper: where an M x K array fits, a product costs six matrix
            products instead of seven. None stands for a quarter of the free memory.

        Returns
        -------
        HessianOperator
            A `scipy.sparse.linalg.LinearOperator` of shape (size, size).

        Raises
        ------
        TypeError, ValueError
            As `loss` does, or if `coordinates` is none of these.

        Notes
        -----
        Of the methods of `scipy.optimize.minimize`, Newton-CG and trust-constr take the operator as ``hess``; trust-ncg
        and trust-krylov take `hessp`, and dogleg and trust-exact the matrix, ``hessian(p) @ numpy.eye(size)``.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> from scipy.sparse.linalg import eigsh
        >>> ufm = uf.UFM(3, 3, [4, 2, 1], lambda_W=0.02, lambda_H=0.01)
        >>> p = ufm.random_point(seed=0)
        >>> values = eigsh(ufm.hessian(p, coordinates="samples"), 1, which="SA", return_eigenvectors=False)
        >>> bool(abs(values - uf.lowest_eigenpairs(ufm, p).eigenvalues) < 1e-8)
        True
        """
        from .hessian import HessianOperator

        x = self.pack(p)
        scale = None if check.choice(coordinates, "coordinates", _COORDINATES) == "packed" else self.metric**-0.5
        return HessianOperator(self.dtype, self.layout, self._problem, self._run, x, scale, memory)

    def rotations(self, p: Point, *, coordinates: Literal["packed", "samples"] = "packed") -> RotationProjector:
        """Return the projector onto the rotations of the feature space at p, (W S, H S, 0) for skew-symmetric S.

        f does not change along them, and at a critical point its Hessian vanishes on them. They are
        r (d - r) + r (r - 1)/2 directions at rank r, of which no vector is stored. A direction of the features counts
        for the rank if W and H are larger along it than 1e-6 times the most, as in `lowest_eigenpairs`.

        Parameters
        ----------
        p : Point
        coordinates : {"packed", "samples"}, optional
            As for `hessian`: those of the operator whose null space it is.

        Returns
        -------
        RotationProjector
            A `scipy.sparse.linalg.LinearOperator` of shape (size, size), orthogonal in these coordinates.

        Raises
        ------
        TypeError, ValueError
            As for `hessian`.

        Notes
        -----
        Cost: a singular value decomposition of (K + M) x d, and four products (K + M) x d x r for each vector.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(3, 3, [4, 2, 1], lambda_W=0.02, lambda_H=0.01)
        >>> p = uf.minimize(ufm).point
        >>> P = ufm.rotations(p)
        >>> v = P @ np.ones(ufm.size)
        >>> bool(np.linalg.norm(ufm.hessian(p) @ v) < 1e-6 * np.linalg.norm(v))
        True
        """
        from .rotations import RotationProjector

        W, H, _ = checked_point(p, self.layout, self.dtype)
        packed = check.choice(coordinates, "coordinates", _COORDINATES) == "packed"
        with single_threaded_blas():
            return RotationProjector(W, H if packed else H * np.sqrt(self.data.ridges)[:, None], self.layout)

    def fun(self, x: ArrayLike, *, overflow: Literal["raise", "inf"] = "raise") -> float:
        """Evaluate f at the packed point x, as scipy.optimize wants it.

        Parameters
        ----------
        x : array of real numbers, shape (size,) or (size, 1)
            A contiguous array of the model's dtype is used as it is, anything else is converted.
        overflow : {"raise", "inf"}, optional
            What happens where f is too large for the model's dtype: an error, or infinity is returned, at which a line
            search turns back.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If x is not such an array (a complex or masked one, say), or holds a NaN or an infinity.
        FloatingPointError
            If f overflows at x and `overflow` is "raise".

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(3, 3, [4, 2, 1], lambda_W=0.02, lambda_H=0.01)
        >>> ufm.fun(np.full(ufm.size, 1e200), overflow="inf")
        inf
        """
        value: float | None = self._unless_overflow(self._problem.flat_loss, x, overflow)
        return math.inf if value is None else value

    def fun_and_grad(self, x: ArrayLike, *, overflow: Literal["raise", "inf"] = "raise") -> tuple[float, NDArray[Any]]:
        """Evaluate f and its packed gradient at the packed point x: ``scipy.optimize.minimize(..., jac=True)``.

        Arguments and errors as in `fun`; with an infinite f the gradient is zeros. The gradient has the model's dtype;
        SciPy's SLSQP takes none but float64.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> from scipy.optimize import minimize
        >>> ufm = uf.UFM(3, 3, [4, 2, 1], lambda_W=0.02, lambda_H=0.01)
        >>> found = minimize(ufm.fun_and_grad, ufm.pack(ufm.random_point(seed=0)), jac=True)
        >>> bool(found.fun < 1.0001 * uf.global_minimum(ufm).value)
        True
        """
        found: tuple[float, NDArray[Any]] | None = self._unless_overflow(self._problem.flat_loss_and_grad, x, overflow)
        return (math.inf, np.zeros(self.size, self.dtype)) if found is None else found

    def _unless_overflow(self, method: Callable[..., Any], x: ArrayLike, overflow: str) -> Any:
        """Call the compiled problem at a packed point; None where f overflows, if that is to be no error."""
        vector, allowed = self._packed(x, "x"), check.choice(overflow, "overflow", _OVERFLOW) == "inf"
        try:
            return self._run(method, vector)
        except FloatingPointError:
            if not allowed:
                raise
            return None

    def hessp(self, x: ArrayLike, v: ArrayLike) -> NDArray[Any]:
        """Multiply the Hessian of f at the packed point x by the packed v; arguments and errors as in `fun`.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> from scipy.optimize import minimize
        >>> ufm = uf.UFM(3, 3, [4, 2, 1], lambda_W=0.02, lambda_H=0.01)
        >>> x = ufm.pack(ufm.random_point(seed=0))
        >>> found = minimize(ufm.fun_and_grad, x, jac=True, hessp=ufm.hessp, method="Newton-CG")
        >>> bool(found.fun < 1.0001 * uf.global_minimum(ufm).value)
        True
        """
        product: NDArray[Any] = self._run(self._problem.flat_hvp, self._packed(x, "x"), self._packed(v, "v"))
        return product

    def _packed(self, x: ArrayLike, name: str) -> NDArray[Any]:
        return check.real_vector(x, name, self.size, self.dtype)

    def pack(self, p: Point) -> NDArray[Any]:
        """Copy a point into one vector of length `size`: W, H and, where there is a bias, b, in C order.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(2, 2, lambda_W=0.02, lambda_H=0.01, bias=False)
        >>> ufm.pack(uf.Point(np.eye(2), 2 * np.eye(2), np.zeros(2)))
        array([1., 0., 0., 1., 2., 0., 0., 2.])
        """
        return self.layout.pack(*checked_point(p, self.layout, self.dtype))

    def unpack(self, x: ArrayLike) -> Point:
        """Return the point whose arrays are views of the packed x (b is a new array of zeros without bias).

        They are views of a copy where x is not a contiguous array of the model's dtype; errors as in `fun`.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(2, 1, lambda_W=0.02, lambda_H=0.01)
        >>> ufm.unpack(np.arange(6.0)).b
        array([4., 5.])
        """
        return Point(*self.layout.unpack(self._packed(x, "x")))


def check_functions(ufm: object) -> None:
    """Raise TypeError if ufm is neither a model nor some rows of one."""
    if not isinstance(ufm, Functions):
        raise TypeError(f"ufm must be a UFM, not {check.shown(ufm)}")


def gradient_gram(ufm: Functions, p: Point) -> NDArray[Any]:
    """Return G^T G (K, K) of the gradient matrix G (M, K), without forming G."""
    gram: NDArray[Any] = ufm._run(ufm._problem.gradient_gram, *p)
    return gram


def gradient_product(ufm: Functions, p: Point, X: NDArray[Any]) -> NDArray[Any]:
    """Return G X for a C-contiguous X (K, columns), without forming G."""
    product: NDArray[Any] = ufm._run(ufm._problem.gradient_product, *p, X)
    return product
