"""A model whose rows of H are spread over MPI ranks: loss, gradient and Hessian products in PETSc's vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from mpi4py import MPI
from petsc4py import PETSc

from .._model.facts import checked_model
from .._model.model import UFM
from .._model.point import Point
from .._model.shard import RowShard
from .._runtime.arguments import choice
from .._runtime.memory import spare_memory
from .._runtime.threads import processes_on_this_machine
from .distribution import Distribution
from .operators import Shell, shell
from .together import as_communicator, attempt, edges, raise_first, together

_COORDINATES = ("packed", "samples")
_OVERFLOW = ("raise", "inf")

#: What a rank computes: its part of f, and its parts of a gradient with respect to all of W, its rows of H, and b.
Part = tuple[float, "Point | None"]


class Shard(Distribution):
    """A model on several ranks: each has some rows of H, and owns some rows of W and some entries of b.

    An evaluation gathers W and b on every rank, runs the core there on the rank's rows (`UFM.rows`), and adds up the
    gradients with respect to W and b, of which each rank keeps what it owns. H never travels. All ranks must call a
    method together, but for `local`; if one fails, all raise.

    Parameters
    ----------
    ufm : UFM
        The whole model, the same on every rank.
    comm : communicator of mpi4py or petsc4py, optional
        None stands for all processes.

    Attributes
    ----------
    ufm : UFM
    comm : mpi4py.MPI.Comm
    rows, classes : range
        The rows of H and of W that this rank owns. There are none on some ranks, if these are more than rows.
    size, local_size : int
        Lengths of a vector, of all ranks (`UFM.size`) and of this one.
    evaluations, products : int
        How often f or its gradient, and how often Hessian products, were computed.

    Raises
    ------
    TypeError, ValueError
        If `ufm` is no model, or not the same on all ranks, or `comm` no communicator; if PETSc's numbers are complex.

    Notes
    -----
    Memory of a rank, besides its part of each vector: the targets of the model; W gathered, its gradient and a sum a
    thread; and tiles of logits as on one rank.

    Examples
    --------
    Under ``mpiexec -n 2``, or alone:

    >>> import ufm_fast as uf
    >>> from ufm_fast.petsc import Shard
    >>> ufm = uf.UFM(10, 4, 100, lambda_W=1e-3, lambda_H=1e-5)
    >>> shard = Shard(ufm)
    >>> x = shard.scatter(ufm.random_point(), root=None)
    >>> f, g = shard.fun_and_grad(x)
    >>> abs(f - ufm.loss(ufm.random_point())) < 1e-14
    True
    """

    def __init__(self, ufm: UFM, comm: Any = None) -> None:
        comm = as_communicator(comm)
        self._part = together(comm, lambda: _part_of(ufm, comm))
        described = repr(ufm), ufm.M, float(ufm.data.weights.sum()), float(ufm.data.ridges.sum())
        if any(other != described for other in comm.allgather(described)):
            raise ValueError(f"ufm must be the same model on every rank, but on rank {comm.rank} it is {ufm}")
        super().__init__(ufm, comm)
        self.evaluations = self.products = 0

    def fun(self, x: PETSc.Vec, *, overflow: Literal["raise", "inf"] = "raise") -> float:
        """Evaluate f at x; errors and `overflow` as in `fun_and_grad`."""
        self.evaluations += 1
        return self._sum(lambda part, p: (part.loss(p), None), x, overflow, gradient=False)[0]

    def fun_and_grad(
        self, x: PETSc.Vec, g: PETSc.Vec | None = None, *, overflow: Literal["raise", "inf"] = "raise"
    ) -> tuple[float, PETSc.Vec]:
        """Evaluate f and its gradient at x.

        Parameters
        ----------
        x : PETSc.Vec
        g : PETSc.Vec, optional
            Where the gradient is written; a new vector, if not given.
        overflow : {"raise", "inf"}, optional
            What happens where f is too large: an error, or infinity and zeros are returned.

        Returns
        -------
        float
        PETSc.Vec

        Raises
        ------
        TypeError, ValueError
            If x or g is no such vector, or x holds a NaN or an infinity.
        FloatingPointError
            If f overflows and `overflow` is "raise".
        """
        self.evaluations += 1
        value, gradient = self._sum(lambda part, p: part.loss_and_grad(p), x, overflow, out=g)
        return value, self._written(gradient, g)

    def hvp(self, x: PETSc.Vec, v: PETSc.Vec, y: PETSc.Vec | None = None) -> PETSc.Vec:
        """Multiply the Hessian of f at x by v, into y or a new vector; `hessian` is for repeated products."""
        self.products += 1
        direction = self._with_classifier(v, y)
        _, product = self._sum(lambda part, p: (0.0, part.hvp(p, direction)), x, "raise")
        return self._written(product, y)

    def hessian(self, x: PETSc.Vec, *, coordinates: Literal["packed", "samples"] = "packed") -> PETSc.Mat:
        """Return the Hessian of f at x as a shell matrix that PETSc and SLEPc can multiply by, shift and scale.

        Parameters
        ----------
        x : PETSc.Vec
        coordinates : {"packed", "samples"}, optional
            As in `UFM.hessian`: eigenvalues are those of the full-sample problem in the second.

        Returns
        -------
        PETSc.Mat

        Raises
        ------
        TypeError, ValueError
            As in `fun_and_grad`, or if `coordinates` is none of these.

        Notes
        -----
        Where a quarter of the free memory, divided by the ranks of a machine, holds the logits of the rank's rows, a
        product costs six matrix products and else seven, as in `UFM.hessian`.
        """
        in_samples = choice(coordinates, "coordinates", _COORDINATES) == "samples"
        return shell(self, HessianShell(self, x, in_samples))

    def require(self, x: Any) -> None:
        """Raise an error on all ranks if x is no vector of this shard on one."""
        together(self.comm, lambda: self.check(x))

    def product_at(self, x: PETSc.Vec) -> Callable[[PETSc.Vec, PETSc.Vec], None]:
        """Return the function that writes the Hessian at x times its first vector to its second."""
        part, p = self._part, self._with_classifier(x)
        memory = int(spare_memory()) // processes_on_this_machine()
        operator = together(self.comm, lambda: None if part is None else part.hessian(p, memory=memory))

        def multiply(v: PETSc.Vec, y: PETSc.Vec) -> None:
            self.products += 1
            direction = self._with_classifier(v, y)

            def here() -> Part:
                if part is None:
                    return 0.0, _zeros_like(direction)
                return 0.0, part.unpack(operator @ part.pack(direction))

            self._written(self._added(here, allowed=False)[1], y)

        return multiply

    def _with_classifier(self, x: PETSc.Vec, out: PETSc.Vec | None = None) -> Point:
        """Return this rank's rows of H with all of W and b, which are gathered; check also where a result goes."""

        def checked() -> Point:
            if out is not None:
                self.check(out)
            return self.local(x, readonly=True)

        W, H, b = together(self.comm, checked)
        return Point(self.gathered(0, W), np.ascontiguousarray(H, self.ufm.dtype), self.gathered(2, b))

    def _sum(
        self,
        work: Callable[[RowShard, Point], Part],
        x: PETSc.Vec,
        overflow: str,
        *,
        gradient: bool = True,
        out: PETSc.Vec | None = None,
    ) -> Part:
        """Add up what work gives for the ranks' rows at x; it gives a gradient on all ranks or on none."""
        allowed = choice(overflow, "overflow", _OVERFLOW) == "inf"
        part, p = self._part, self._with_classifier(x, out)

        def here() -> Part:
            try:
                return work(part, p) if part is not None else (0.0, _zeros_like(p) if gradient else None)
            except FloatingPointError:
                if not allowed:
                    raise
                return math.inf, None

        return self._added(here, allowed)

    def _added(self, here: Callable[[], Part], allowed: bool) -> Part:
        """Add up what the ranks compute, of which this rank's piece is returned: in two operations of all ranks."""
        answer, error = attempt(here)
        value, parts = (0.0, None) if answer is None else answer
        small = np.zeros(2 + self.ufm.layout.biases)
        small[:2] = error is not None, value
        if parts is not None:
            small[2:] = parts.b
        self.comm.Allreduce(MPI.IN_PLACE, small)
        if small[0]:
            raise_first(self.comm, error)
        if not np.isfinite(small).all():
            if not allowed:
                raise FloatingPointError("the sum of the ranks' parts of f or its gradient overflows")
            return math.inf, None
        if parts is None:
            return float(small[1]), None
        mine = np.empty(self.counts(0)[self.comm.rank], PETSc.ScalarType)
        self.comm.Reduce_scatter(np.ascontiguousarray(parts.W, PETSc.ScalarType), mine, self.counts(0))
        return float(small[1]), Point(mine, parts.H, small[2:][self.biases.start : self.biases.stop])

    def _written(self, part: Point | None, out: PETSc.Vec | None) -> PETSc.Vec:
        out = self.vector() if out is None else out
        if part is None:
            out.set(0)
        else:
            self.fill(out, part)
        return out


class HessianShell(Shell):
    """The Hessian of f at a vector, in packed coordinates or those of samples."""

    def __init__(self, shard: Shard, x: PETSc.Vec, in_samples: bool = False) -> None:
        super().__init__()
        self._shard = shard
        self._scale: Any = None
        self._product: Callable[[PETSc.Vec, PETSc.Vec], None] | None = None
        if in_samples:
            self._scale = shard.metric()
            self._scale.sqrtabs()
            self._scale.reciprocal()
        self._shard.require(x)
        self.set_point(x)

    def set_point(self, x: PETSc.Vec) -> None:
        """Move to another vector, at which nothing is computed before the first product."""
        self.reset()
        self._at, self._product = x.copy(), None

    def multiply(self, v: PETSc.Vec, y: PETSc.Vec) -> None:
        """Write the Hessian times v to y."""
        if self._product is None:
            self._product = self._shard.product_at(self._at)
        if self._scale is None:
            self._product(v, y)
            return
        packed = v.duplicate()
        packed.pointwiseMult(v, self._scale)
        self._product(packed, y)
        y.pointwiseMult(y, self._scale)


def _part_of(ufm: UFM, comm: MPI.Comm) -> RowShard | None:
    """Return this rank's rows; None if there are none."""
    ufm = checked_model(ufm)
    if np.issubdtype(PETSc.ScalarType, np.complexfloating):
        raise TypeError("ufm_fast.petsc needs a PETSc of real numbers, but the numbers of this one are complex")
    start, stop = edges(ufm.M, comm.size)[comm.rank : comm.rank + 2].tolist()
    return ufm.rows(start, stop) if start < stop else None


def _zeros_like(p: Point) -> Point:
    return Point(*map(np.zeros_like, p))
