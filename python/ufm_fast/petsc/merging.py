"""What one rank judges of a model that is spread over many: the point with equal rows merged."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from mpi4py import MPI
from petsc4py import PETSc

from .._model.point import Point
from .shard import Shard
from .together import together


class MergedRows:
    """A model with its equal rows merged, as `UFM.merged` does it, if the loss is convex and there are any.

    Samples become class means, for one: rank 0 then holds K x d numbers of H instead of N x d. Replacing features of
    equal rows by their mean does not raise f, and changes nothing at critical points.

    Attributes
    ----------
    ufm : UFM
        The merged model.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard, self.ufm, self._index = shard, shard.ufm, None
        if self.ufm.loss_function.convex:
            merged, index = together(shard.comm, self.ufm.merged)
            if merged.M < self.ufm.M:
                self.ufm, self._index = merged, index[shard.rows.start : shard.rows.stop]

    def point(self, x: PETSc.Vec) -> Point | None:
        """Return the merged point on rank 0, and None on the others."""
        shard = self._shard
        if self._index is None:
            return shard.gather(x)
        part, d = shard.local(x, readonly=True), self.ufm.d
        ridges = shard.ufm.data.ridges[shard.rows.start : shard.rows.stop]
        shape = (self.ufm.M, len(self._index))
        sums = scipy.sparse.csr_array((ridges, (self._index, np.arange(shape[1]))), shape=shape) @ part.H
        means = np.ascontiguousarray(sums, np.float64).reshape(-1, d)
        shard.comm.Allreduce(MPI.IN_PLACE, means)
        means /= self.ufm.data.ridges[:, None]
        W, b = shard.gathered(0, part.W, 0), shard.gathered(2, part.b, 0)
        return Point(W, means.astype(self.ufm.dtype), b) if shard.comm.rank == 0 else None

    def vector(self, p: Point | None) -> PETSc.Vec:
        """Return a new vector with a merged point of rank 0: equal rows get one feature."""
        shard = self._shard
        if self._index is None:
            return shard.scatter(p)
        W, H, b = shard.comm.bcast(p)
        own = (slice(each.start, each.stop) for each in (shard.classes, shard.biases))
        return shard.filled(W[next(own)], H[self._index], b[next(own)])
