"""The unconstrained feature model: its points, loss, gradient and Hessian products."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .._runtime import arguments as check
from .._runtime import core
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import checked_threads, get_num_threads
from .loss import Loss
from .losses import as_loss
from .packing import Layout
from .point import Point, checked_point
from .rows import Rows, class_rows, sample_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray

    from .hessian import HessianOperator


class UFM:
    """An unconstrained feature model (Gu & Shen 2024, arXiv 2407.10702; Zhu et al. 2021, arXiv 2105.02375).

    With N samples in K classes, features h_i of dimension d and logits ``z_i = W h_i + b``,

        f(W, H, b) = (1/N) sum_i loss(z_i, k_i) + lambda_W/2 |W|^2 + lambda_H/2 sum_i |h_i|^2 + lambda_b/2 |b|^2.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Feature dimension.
    n : int or K ints, optional
        Samples per class, positive; N is below 2^63.
    loss : {"cross_entropy", "mse", "bce"} or CrossEntropy or MSE or BinaryCrossEntropy or Focal, optional
    lambda_W, lambda_H : float
        Weight decays of classifier and features, positive and in the range of `dtype`.
    lambda_b : float, optional
        Weight decay of the bias, zero or as the others; not used where ``bias`` is False.
    bias : bool, optional
        Whether there is a bias.
    collapse : bool, optional
        True: H has K rows, the class means, and every sample of class k sits at row k (M = K). This is exact at every
        critical point, where the features of a class coincide. False: H has N rows, class by class in order (M = N).
    dtype : "float64" or "float32", optional
        Of all points; arrays of it are used without copying.
    threads : int, optional
        Threads of this model, from 1 to 4096; None follows `set_num_threads`.

    Attributes
    ----------
    K, d, N, M : int
    counts : ndarray of int64, shape (K,)
        Samples per class.
    tau, rho : float
        ``sqrt(lambda_W lambda_H)`` and ``(lambda_H / lambda_W)^(1/4)``.
    size : int
        Length of a packed point.
    dtype : numpy.dtype
    loss_function : CrossEntropy or MSE or BinaryCrossEntropy or Focal
    lambda_W, lambda_H, lambda_b : float
    bias, collapse_classes : bool
    threads : int or None

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or a point would have 2^63 bytes or more.
    MemoryError
        If arrays of N or K numbers cannot be allocated.

    Notes
    -----
    Numbers may be Python's or NumPy's, but no booleans or strings.
    """

    counts: Any  # None in a model of rows that are neither classes nor samples
    N: Any  # an int, but for such rows

    def __init__(
        self,
        K: int,
        d: int,
        n: int | Sequence[int] | NDArray[Any] = 1,
        *,
        loss: str | Loss = "cross_entropy",
        lambda_W: float,
        lambda_H: float,
        lambda_b: float = 0.0,
        bias: bool = True,
        collapse: bool = True,
        dtype: DTypeLike = "float64",
        threads: int | None = None,
    ) -> None:
        self._set_options(K, d, loss, (lambda_W, lambda_H, lambda_b), bias, dtype, threads)
        self.collapse_classes = check.flag(collapse, "collapse")
        self.counts = check.class_counts(n, self.K)
        N = int(self.counts.sum())
        self._check_size(self.K if self.collapse_classes else N)
        self._set_rows(class_rows(self.counts) if self.collapse_classes else sample_rows(self.counts), N)

    def _set_options(
        self,
        K: int,
        d: int,
        loss: str | Loss,
        decays: tuple[float, float, float],
        bias: bool,
        dtype: DTypeLike,
        threads: int | None,
    ) -> None:
        self.K = check.whole_number(K, "K", 2)
        self.d = check.whole_number(d, "d", 1)
        self.dtype = check.float_type(dtype, "dtype")
        self.bias = check.flag(bias, "bias")
        self.loss_function = as_loss(loss)
        self.loss_function.check(self.K)
        lambda_W, lambda_H, lambda_b = decays
        self.lambda_W = self._decay(lambda_W, "lambda_W", above=0)
        self.lambda_H = self._decay(lambda_H, "lambda_H", above=0)
        self.lambda_b = self._decay(lambda_b, "lambda_b", least=0)
        self.tau = math.sqrt(self.lambda_W) * math.sqrt(self.lambda_H)
        self.rho = math.sqrt(math.sqrt(self.lambda_H / self.lambda_W))
        self.threads = None if threads is None else checked_threads(threads, "threads")
        check.addressable(2 * self.K * self.d, self.dtype, f"K = {self.K} and d = {self.d}")

    def _check_size(self, M: int) -> None:
        size = (self.K + M) * self.d + self.K * self.bias
        check.addressable(size, self.dtype, f"K = {self.K}, d = {self.d} and M = {M}")

    def _set_rows(self, rows: Rows, N: float) -> None:
        self.data, self.N, self.M = rows, N, rows.M
        self.layout = Layout(self.K, self.M, self.d, self.bias)
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
        self._inline = self.K * self.d * self.M <= core.small_product

    def _decay(self, value: Any, name: str, **limits: float) -> float:
        decay = check.real_number(value, name, **limits)
        with np.errstate(over="ignore"):
            error = abs(float(self.dtype.type(decay)) - decay)
        if error > float(np.finfo(self.dtype).eps) * decay:
            raise ValueError(f"{name} must be in the range of {self.dtype}, not {decay}")
        return decay

    def __reduce__(self) -> tuple[Any, ...]:
        options: dict[str, Any] = {
            "loss": self.loss_function, "lambda_W": self.lambda_W, "lambda_H": self.lambda_H,
            "lambda_b": self.lambda_b, "bias": self.bias, "dtype": self.dtype.name, "threads": self.threads,
        }  # fmt: skip
        if self.counts is None:
            return partial(rows_model, **options), (self.K, self.d, self.data)
        return partial(UFM, **options, collapse=self.collapse_classes), (self.K, self.d, self.counts)

    def __repr__(self) -> str:
        samples = self.data.ridges if self.counts is None else self.counts
        least, most = samples.min(), samples.max()
        n = f"{least}" if least == most else f"{least}..{most}"
        return (
            f"UFM(K={self.K}, d={self.d}, n={n}, loss={self.loss_function}, lambda_W={self.lambda_W:g}, "
            f"lambda_H={self.lambda_H:g}, lambda_b={self.lambda_b:g}, bias={self.bias}, "
            f"collapse={self.collapse_classes}, dtype={self.dtype})"
        )

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

    def random_point(self, seed: int | np.random.Generator = 0, scale: float | None = None) -> Point:
        """Draw a point with independent normal entries.

        Parameters
        ----------
        seed : int or numpy.random.Generator
            Not negative.
        scale : float, optional
            Standard deviation of all entries. None stands for 0.3 / sqrt(K) in balanced coordinates, in which both
            decays are tau and a feature of class k counts sqrt(n_k) times: logits then start of order 0.1.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above, or an entry overflows the model's dtype.
        """
        if not isinstance(seed, np.random.Generator):
            seed = check.whole_number(seed, "seed", 0)
        generator = np.random.default_rng(seed)
        W, H, b = (generator.standard_normal(shape) for shape in ((self.K, self.d), (self.M, self.d), self.K))
        if scale is None:
            root = np.sqrt(self.data.ridges if self.collapse_classes else np.repeat(self.counts, self.counts))
            spread = 0.3 / math.sqrt(self.K)
            W, H, b = spread * self.rho * W, spread / self.rho * H / root[:, None], spread * b
        else:
            spread = check.real_number(scale, "scale", least=0, below=float(np.finfo(self.dtype).max))
            with np.errstate(over="ignore"):
                W, H, b = spread * W, spread * H, spread * b
        with np.errstate(over="ignore"):
            p = Point(W.astype(self.dtype), H.astype(self.dtype), b.astype(self.dtype))
        if not all(np.isfinite(part).all() for part in p):
            raise ValueError(f"scale must be given and smaller, not {scale}: entries overflow {self.dtype}")
        return p if self.bias else p._replace(b=np.zeros(self.K, self.dtype))

    def collapse(self, p: Point) -> Point:
        """Replace the features of N samples, class by class, by their K class means; f does not rise.

        Parameters
        ----------
        p : Point
            With N rows in H.

        Returns
        -------
        Point
            With K rows in H.
        """
        W, H, b = checked_point(p, replace(self.layout, M=self.N), self.dtype)
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        means = np.add.reduceat(H, starts, axis=0, dtype=np.float64) / self.counts[:, None]
        return Point(W, means.astype(self.dtype), b)

    def expand(self, p: Point) -> Point:
        """Give every sample its class's feature: K rows in H become N, class by class; f does not change."""
        W, H, b = checked_point(p, replace(self.layout, M=self.K), self.dtype)
        return Point(W, np.repeat(H, self.counts, axis=0), b)


def rows_model(
    K: int,
    d: int,
    rows: Rows,
    *,
    loss: str | Loss = "cross_entropy",
    lambda_W: float,
    lambda_H: float,
    lambda_b: float = 0.0,
    bias: bool = True,
    dtype: DTypeLike = "float64",
    threads: int | None = None,
) -> UFM:
    """Return a model of rows of any kind; it has no class counts, and N is the sum of the rows' ridges."""
    ufm = UFM.__new__(UFM)
    ufm._set_options(K, d, loss, (lambda_W, lambda_H, lambda_b), bias, dtype, threads)
    ufm.collapse_classes, ufm.counts = True, None
    ufm._check_size(rows.M)
    ufm._set_rows(rows, float(rows.ridges.sum()))
    return ufm


def in_double(ufm: UFM, *, collapse: bool, d: int | None = None) -> UFM:
    """Return the same model in float64, on class means or with a row a sample; with d features, if given."""
    options: dict[str, Any] = {
        "loss": ufm.loss_function, "lambda_W": ufm.lambda_W, "lambda_H": ufm.lambda_H, "lambda_b": ufm.lambda_b,
        "bias": ufm.bias, "threads": ufm.threads,
    }  # fmt: skip
    d = ufm.d if d is None else d
    if ufm.counts is None:
        return rows_model(ufm.K, d, ufm.data, **options)
    return UFM(ufm.K, d, ufm.counts, **options, collapse=collapse)


def gradient_gram(ufm: UFM, p: Point) -> NDArray[Any]:
    """Return G^T G (K, K) of the gradient matrix G (M, K), without forming G."""
    gram: NDArray[Any] = ufm._run(ufm._problem.gradient_gram, *p)
    return gram


def gradient_product(ufm: UFM, p: Point, X: NDArray[Any]) -> NDArray[Any]:
    """Return G X for a C-contiguous X (K, columns), without forming G."""
    product: NDArray[Any] = ufm._run(ufm._problem.gradient_product, *p, X)
    return product
