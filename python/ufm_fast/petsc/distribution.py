"""How the unknowns of a model lie on MPI ranks, and the ways between points and PETSc's vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc

from .._model.model import UFM
from .._model.packing import Layout
from .._model.point import Point, checked_point
from .._runtime.arguments import whole_number
from .together import edges, together

Local = NDArray[Any]


class Distribution:
    """Each rank owns some rows of W and of H and some entries of b, contiguous, as PETSc spreads entries.

    A vector holds on each rank its rows of W, then its rows of H, then its entries of b: every unknown once. Its
    numbers are converted between PETSc's type and the model's.
    """

    def __init__(self, ufm: UFM, comm: MPI.Comm) -> None:
        self.ufm, self.comm = ufm, comm
        rank, layout = comm.rank, ufm.layout
        self._edges = [edges(n, comm.size) for n in (layout.K, ufm.M, layout.biases)]
        self.classes, self.rows, self.biases = (range(*ends[rank : rank + 2].tolist()) for ends in self._edges)
        self._layout = Layout(len(self.classes), len(self.rows), ufm.d, ufm.bias, len(self.biases))
        self.size, self.local_size = ufm.size, self._layout.size

    def vector(self) -> PETSc.Vec:
        """Return a new vector of zeros."""
        x = PETSc.Vec().createMPI((self.local_size, self.size), comm=self.comm)
        x.set(0)
        return x

    def local(self, x: PETSc.Vec, *, readonly: bool = False) -> Point:
        """Return this rank's part of a vector: views of its rows of W and H and of its entries of b (not collective).

        For points that no rank has as a whole. Solvers lock their vectors against writing, so functions that they call
        must ask for `readonly` views.
        """
        self.check(x)
        return Point(*self._layout.unpack(x.array_r if readonly else x.array_w))

    def check(self, x: Any) -> None:
        """Raise an error if x is no vector of this distribution (not collective)."""
        if not isinstance(x, PETSc.Vec):
            raise TypeError(f"a vector of a shard must be a PETSc.Vec, not {type(x).__name__}")
        if (x.getLocalSize(), x.getSize()) != (self.local_size, self.size):
            raise ValueError(
                f"a vector of this shard must have {self.local_size} of {self.size} entries on rank {self.comm.rank}, "
                f"not {x.getLocalSize()} of {x.getSize()}"
            )

    def scatter(self, p: Point | None, root: int | None = 0) -> PETSc.Vec:
        """Return a new vector with a point.

        Parameters
        ----------
        p : Point or None
            What is scattered; read on rank `root` only.
        root : int or None, optional
            The rank that has the point. None: every rank has all of it, and nothing is sent.

        Returns
        -------
        PETSc.Vec

        Raises
        ------
        TypeError, ValueError
            If p is no point of the model.
        """
        whole = together(self.comm, lambda: self._point(p) if self._has(root) else None)
        if root is None:
            assert whole is not None
            return self.filled(*(part[slice(*self._ends(i))] for i, part in enumerate(whole)))
        return self.filled(*(self._scattered(i, whole, root) for i in range(3)))

    def _point(self, p: Point | None) -> Point:
        if p is None:
            raise TypeError("p must be a Point on the rank that it is scattered from, not None")
        checked = checked_point(p, self.ufm.layout, self.ufm.dtype)
        return Point(*(np.ascontiguousarray(part, PETSc.ScalarType) for part in checked))

    def _has(self, root: int | None) -> bool:
        """Whether this rank gives or takes what root does; None stands for all."""
        return root is None or whole_number(root, "root", 0, self.comm.size - 1) == self.comm.rank

    def _ends(self, kind: int) -> tuple[int, int]:
        first, last = self._edges[kind][self.comm.rank : self.comm.rank + 2]
        return int(first), int(last)

    def filled(self, W: Local, H: Local, b: Local) -> PETSc.Vec:
        """Return a new vector from this rank's parts."""
        x = self.vector()
        self.fill(x, Point(W, H, b))
        return x

    def fill(self, x: PETSc.Vec, part: Point) -> None:
        """Write this rank's parts, of any shape, to a vector."""
        for place, values in zip(self.local(x), part, strict=True):
            place[...] = values.reshape(place.shape)

    def _scattered(self, kind: int, whole: Point | None, root: int) -> Local:
        counts = self.counts(kind)
        mine = np.empty(counts[self.comm.rank], PETSc.ScalarType)
        self.comm.Scatterv(None if whole is None else [whole[kind], counts], mine, root)
        return mine

    def counts(self, kind: int) -> list[int]:
        """Return how many numbers each rank has of W (0), H (1) or b (2)."""
        columns = 1 if kind == 2 else self.ufm.d
        return [int(n) * columns for n in np.diff(self._edges[kind])]

    def gather(self, x: PETSc.Vec, root: int | None = 0) -> Point | None:
        """Return the point of a vector on rank `root`, and None on the others; for None, the point on every rank."""
        parts, wanted = together(self.comm, lambda: (self.local(x, readonly=True), self._has(root)))
        gathered = [self.gathered(i, part, root) for i, part in enumerate(parts)]
        return Point(*gathered) if wanted else None

    def gathered(self, kind: int, part: Local, root: int | None = None) -> Local:
        """Return all of W (0), H (1) or b (2) on the ranks that ask for it, and nothing on the others."""
        counts, layout = self.counts(kind), self.ufm.layout
        mine = np.ascontiguousarray(part, PETSc.ScalarType)
        whole = np.empty(sum(counts) if root in (None, self.comm.rank) else 0, PETSc.ScalarType)
        if root is None:
            self.comm.Allgatherv(mine, [whole, counts])
        else:
            self.comm.Gatherv(mine, [whole, counts] if self.comm.rank == root else None, root)
        shape = (-1,) if kind == 2 else (-1, layout.columns)
        return whole.astype(self.ufm.dtype, copy=False).reshape(shape)

    def metric(self) -> PETSc.Vec:
        """Return `UFM.metric` as a vector: 1 for W and b, the ridges for rows of H."""
        x = self.vector()
        x.set(1)
        self.local(x).H[...] = self.ufm.data.ridges[self.rows.start : self.rows.stop, None]
        return x
