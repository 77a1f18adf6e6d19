"""A model whose classes are spread over MPI ranks, for classifiers that no rank has as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from .._model.facts import checked_model
from .._model.losses import CrossEntropy
from .._model.model import UFM
from .._model.packing import Layout
from .._model.point import Point, checked_point
from .._model.rows import Rows
from .._runtime import core
from .._runtime.blas import single_threaded_blas
from .._runtime.threads import get_num_threads
from .together import as_communicator, edges, together

Array = NDArray[Any]


@dataclass(frozen=True)
class _RowSums:
    """What the classes of all ranks say of each row, (M,), in the model's dtype."""

    logsumexps: Array
    residuals: Array  # the label's probability less one
    value: float  # of the data term


class ClassParallel:
    """Cross-entropy with the classes of W on different ranks, as vocabulary-parallel heads of language models have it.

    An evaluation gathers H on every rank, where the core computes the logits of the rank's classes, tile by tile. The
    rows' sums of exponentials are added up over the ranks (a few numbers a row), and so is the gradient with respect to
    H, of which each rank keeps its rows. W never travels. All ranks must call a method together, but for `part`; if one
    fails, all raise.

    Parameters
    ----------
    ufm : UFM
        The whole model, the same on every rank; no array of K x d is made of it. Its loss is `CrossEntropy`, plain or
        with label smoothing, and its targets are labels.
    comm : communicator of mpi4py, optional
        None stands for all processes.

    Attributes
    ----------
    ufm : UFM
    comm : mpi4py.MPI.Comm
    classes, rows : range
        The rows of W (and entries of b) and those of H that this rank owns. A rank may have none.

    Raises
    ------
    TypeError, ValueError
        If `ufm` is no such model.

    Notes
    -----
    Points, directions and gradients are this rank's parts, ``(W[classes], H[rows], b[classes])``.

    A gradient takes four products of the rank's part of W with H, where `Shard` takes three; a Hessian product ten, and
    one more for all at one point, where `Shard` takes six or seven. Memory of a rank: H and its gradient, a few numbers
    a row, and its part of W as often as a single process has W.

    Examples
    --------
    Under ``mpiexec -n 2``, or alone:

    >>> import ufm_fast as uf
    >>> from ufm_fast.petsc import ClassParallel
    >>> ufm = uf.UFM(10, 4, 100, lambda_W=1e-3, lambda_H=1e-5)
    >>> head, p = ClassParallel(ufm), ufm.random_point()
    >>> value, gradient = head.loss_and_grad(head.part(p))
    >>> abs(value - ufm.loss(p)) < 1e-14
    True
    """

    def __init__(self, ufm: UFM, comm: Any = None) -> None:
        self.comm = as_communicator(comm)
        together(self.comm, lambda: _check(ufm))
        self.ufm, rank, size = ufm, self.comm.rank, self.comm.size
        ends, self._row_ends = edges(ufm.K, size), edges(ufm.M, size)
        self.classes, self.rows = (range(*x[rank : rank + 2].tolist()) for x in (ends, self._row_ends))
        K = len(self.classes)
        self._layout = Layout(K, len(self.rows), ufm.d, ufm.bias, K)
        self._smoothing = ufm.loss_function.parameters["label_smoothing"]
        labels = ufm.data.labels
        assert labels is not None
        self._labels = labels - self.classes.start
        self._problem = together(self.comm, self._compiled) if K else together(self.comm, lambda: None)

    def _compiled(self) -> Any:
        """Return the problem of this rank's classes; the first rank has the ridges of H."""
        ufm, data = self.ufm, self.ufm.data
        rows = Rows(np.zeros(ufm.M, dtype=np.int64), data.weights, data.ridges, data.N)
        return rows.compiled(
            CrossEntropy(),
            len(self.classes),
            ufm.d,
            scales=np.ones(ufm.M),
            ridges=ufm.lambda_H * data.ridges if self.comm.rank == 0 else np.zeros(ufm.M),
            lambda_W=ufm.lambda_W,
            lambda_b=ufm.lambda_b,
            bias=ufm.bias,
            dtype=ufm.dtype,
        )

    def part(self, p: Point) -> Point:
        """Return copies of this rank's parts of a whole point (not collective)."""
        W, H, b = checked_point(p, self.ufm.layout, self.ufm.dtype)
        classes, rows = (slice(each.start, each.stop) for each in (self.classes, self.rows))
        return Point(W[classes].copy(), H[rows].copy(), b[classes].copy())

    def loss(self, p: Point) -> float:
        """Evaluate f; arguments and errors as in `loss_and_grad`. One product."""

        def checked() -> float:
            W, H, b = self._checked(p)
            ridges = self.ufm.data.ridges[self.rows.start : self.rows.stop]
            with np.errstate(over="ignore"):  # an infinite loss is refused below
                of_W, of_H, of_b = (np.sum(np.square(part, dtype=np.float64), axis=-1) for part in (W, H, b))
                return 0.5 * float(
                    self.ufm.lambda_W * of_W.sum() + self.ufm.lambda_H * (ridges @ of_H) + self.ufm.lambda_b * of_b
                )

        ridge = self.comm.allreduce(together(self.comm, checked))
        return self._finite(self._row_sums(self._with_features(p)).value + ridge, "the loss")

    def loss_and_grad(self, p: Point) -> tuple[float, Point]:
        """Evaluate f and its gradient.

        Parameters
        ----------
        p : Point
            This rank's parts, of the model's dtype, C-contiguous.

        Returns
        -------
        float
        Point
            This rank's parts of the gradient.

        Raises
        ------
        TypeError, ValueError
            If p is not such a point, or holds a NaN or an infinity.
        FloatingPointError
            If f or its gradient overflows.
        """
        whole = self._with_features(p)
        sums = self._row_sums(whole)
        ridge, *gradient = self._parts(
            whole,
            lambda: self._run(
                core.class_gradient, sums.logsumexps, sums.residuals, self._smoothing, self.ufm.K, *whole
            ),
        )
        value = self._finite(sums.value + self.comm.allreduce(float(ridge)), "the loss or its gradient")
        return value, self._kept(gradient)

    def hvp(self, p: Point, v: Point) -> Point:
        """Multiply the Hessian of f at p by v; arguments and errors as in `loss_and_grad`."""
        return self.product_at(p)(v)

    def product_at(self, p: Point) -> Callable[[Point], Point]:
        """Return the function that multiplies the Hessian of f at p by its argument, for repeated products."""
        whole = self._with_features(p)
        sums = self._row_sums(whole)

        def multiply(v: Point) -> Point:
            direction = self._with_features(v)
            means, curvatures = self._moves(whole, direction, sums)

            def here() -> Any:
                finite, *parts = self._run(
                    core.class_product, sums.logsumexps, sums.residuals, self._smoothing, self.ufm.K,
                    *whole, *direction, means, curvatures,
                )  # fmt: skip
                return 0.0 if finite else np.inf, *parts

            overflow, *product = self._parts(whole, here)
            self._finite(self.comm.allreduce(overflow), "the Hessian product")
            return self._kept(product)

        return multiply

    def _checked(self, p: Point) -> Point:
        return checked_point(p, self._layout, self.ufm.dtype)

    def _with_features(self, p: Point) -> Point:
        """Return this rank's W and b with all of H, which is gathered."""
        mine = together(self.comm, lambda: self._checked(p))
        whole = np.empty((self.ufm.M, self.ufm.d), self.ufm.dtype)
        self.comm.Allgatherv(np.ascontiguousarray(mine.H), [whole, self._counts()])
        return Point(np.ascontiguousarray(mine.W), whole, np.ascontiguousarray(mine.b))

    def _counts(self) -> list[int]:
        return [int(n) * self.ufm.d for n in np.diff(self._row_ends)]

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with single_threaded_blas():
            return function(self._problem, self._labels, *arguments, self.ufm.threads or get_num_threads())

    def _parts(self, whole: Point, work: Callable[[], Any]) -> Any:
        """Return what work gives; a rank without classes has a value of zero and nothing to add."""
        if self.classes:
            return together(self.comm, work)
        return together(self.comm, lambda: (0.0, *map(np.zeros_like, whole)))

    def _row_sums(self, whole: Point) -> _RowSums:
        """Add up what the ranks' classes say of the rows: two sums over ranks, of M and of 3 M numbers."""
        M, dtype = self.ufm.M, self.ufm.dtype

        def here() -> Array:
            if not self.classes:
                return np.stack([np.full(M, -np.inf), np.zeros(M), np.zeros(M)])
            found: Array = self._run(core.class_logits, *whole).astype(np.float64)
            if np.isnan(found).any() or np.isinf(found[1:]).any():
                raise FloatingPointError(f"the logits overflow {dtype} at this point, all entries of which are finite")
            return found

        numbers = together(self.comm, here)
        largest = numbers[0].copy()
        self.comm.Allreduce(MPI.IN_PLACE, largest, MPI.MAX)
        none = np.isneginf(largest)
        numbers[0] = np.where(none, 0.0, np.exp(numbers[0] - np.where(none, 0.0, largest)))
        self.comm.Allreduce(MPI.IN_PLACE, numbers)
        total, labels, logits = numbers
        with np.errstate(divide="ignore"):
            excess = np.where(none, -np.inf, largest + np.log(total)) - labels  # of the others over the label
        plain = np.logaddexp(0.0, excess)
        losses = plain + self._smoothing * (labels - logits / self.ufm.K)
        residuals = -np.exp(excess - plain)
        return _RowSums((labels + plain).astype(dtype), residuals.astype(dtype), float(self.ufm.data.weights @ losses))

    def _moves(self, whole: Point, direction: Point, sums: _RowSums) -> tuple[Array, Array]:
        """Return the rows' mean moves of logits, and the labels' entries of (diag(p) - p p^T) dz."""
        numbers = together(
            self.comm,
            lambda: (
                self._run(core.class_moves, sums.logsumexps, *whole, *direction).astype(np.float64)
                if self.classes
                else np.zeros((2, self.ufm.M))
            ),
        )
        self.comm.Allreduce(MPI.IN_PLACE, numbers)
        others, labels = numbers
        shift = others + sums.residuals * labels  # the mean less the label's: small where the label is likely
        return (labels + shift).astype(self.ufm.dtype), (-(1 + sums.residuals) * shift).astype(self.ufm.dtype)

    def _kept(self, parts: list[Array]) -> Point:
        """Add up the parts with respect to H, of which this rank's rows are kept."""
        W, H, b = parts
        mine = np.empty((len(self.rows), self.ufm.d), self.ufm.dtype)
        self.comm.Reduce_scatter(H, mine, self._counts())
        return Point(W, mine, b)

    def _finite(self, value: float, what: str) -> float:
        """Return a number that all ranks have, if it is finite."""
        if not np.isfinite(value):
            raise FloatingPointError(
                f"{what} overflows {self.ufm.dtype} at this point, all entries of which are finite"
            )
        return float(value)


def _check(ufm: Any) -> None:
    loss = checked_model(ufm).loss_function
    if type(loss) is not CrossEntropy or not loss.treats_classes_alike or ufm.data.labels is None:
        raise ValueError(
            f"ufm must have labels and cross-entropy, plain or with label smoothing, not {loss}"
            + (" and targets that are no labels" if ufm.data.labels is None else "")
        )
