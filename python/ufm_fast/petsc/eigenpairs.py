"""SLEPc's eigen-solvers on the Hessian of a model that is spread over ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray
from petsc4py import PETSc
from slepc4py import SLEPc

from .._model.model import UFM
from .._model.point import Point
from .._model.rotations import ABSENT
from .._runtime import linalg
from .._runtime.arguments import flag, real_number, whole_number
from .._runtime.warnings import warn
from .operators import Shell, shell
from .shard import HessianShell, Shard
from .solve import PREFIX, as_shard, as_vector
from .together import together

_CRITICAL = 1e-6  # gradient, over tau |(W, H)|, below which a point counts as critical
_ROUGH = 0.1  # accuracy of the largest eigenvalue, which tells where rotations may go
_SPACE = 40  # vectors that a search keeps, at least


@dataclass(frozen=True, eq=False)
class LowestPairs:
    """What `slepc_lowest` found. All numbers are those of the full-sample problem, as in `ufm_fast.Eigenpairs`.

    Attributes
    ----------
    eigenvalues : ndarray, shape (k,)
        Ascending.
    vectors : list of PETSc.Vec
        Eigenvectors, directions in the coordinates of points, ``|W|^2 + sum_i |h_i|^2 + |b|^2 = 1`` over all samples.
    residuals : ndarray, shape (k,)
        Norms of Hessian times vector less eigenvalue times vector, across the rotations if these were left out.
    products : int
        Hessian products used.
    deflated : int
        Dimension of the space that was left out: tangents to the rotations of the feature space. 0 if nothing was.
    """

    eigenvalues: NDArray[np.float64]
    vectors: list[PETSc.Vec]
    residuals: NDArray[np.float64]
    products: int
    deflated: int


def slepc_lowest(
    model: UFM | Shard,
    p: Point | PETSc.Vec,
    k: int = 1,
    *,
    tol: float = 1e-8,
    deflate: bool | None = None,
    max_iterations: int = 1000,
    seed: int = 0,
    comm: Any = None,
) -> LowestPairs:
    """Find the lowest eigenvalues of the Hessian of the full-sample problem by SLEPc, as `uf.lowest_eigenpairs` does.

    Krylov-Schur with restarts from random vectors; each pair that is found is deflated, and at the end one more search
    orthogonal to all has to find nothing lower. So eigenvalues are met as often as their multiplicity says.

    Parameters
    ----------
    model : UFM or Shard
        The same on every rank.
    p : Point or PETSc.Vec
        A vector, or a point on rank 0 (on other ranks it is not read).
    k : int, optional
        How many, with multiplicity.
    tol : float, optional
        Residual norms wanted, relative to the largest eigenvalue.
    deflate : bool, optional
        Whether to search only orthogonally to the rotations of the feature space (W S, H S), S skew, on which the
        Hessian of a critical point vanishes. None stands for True where the gradient is at most 1e-6 of tau |(W, H)|.
    max_iterations : int, optional
        Restarts of a search after which it stops.
    seed : int, optional
        Of the start vectors.
    comm : communicator of mpi4py or petsc4py, optional
        With a UFM; None stands for all processes.

    Returns
    -------
    LowestPairs
        On all ranks.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.

    Warns
    -----
    ConvergenceWarning
        On all ranks, if a search stopped before its residual was small enough.

    Notes
    -----
    The rotations are not stored: the operator is the Hessian's compression to their complement, plus the largest
    eigenvalue times the projector onto them, for which d x d numbers are summed over the ranks in each product. SLEPc's
    options have the prefix ``ufm_fast_``: ``-ufm_fast_eps_monitor``.

    Nothing lower in the last search is strong evidence and no proof. Unlike `uf.lowest_eigenpairs`, which solves
    directions of the feature space that W and H leave empty by themselves and decomposes small Hessians, all is by
    Hessian products; memory of a rank is about 80 vectors of its length.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> from ufm_fast.petsc import slepc_lowest
    >>> ufm = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4)
    >>> p = uf.saddle(ufm, 2)
    >>> found = slepc_lowest(ufm, p)
    >>> bool(abs(found.eigenvalues - uf.lowest_eigenpairs(ufm, p).eigenvalues) < 1e-10)
    True
    """
    shard = as_shard(model, comm)
    k, tol, deflate, most, seed = together(
        shard.comm,
        lambda: (
            whole_number(k, "k", 1, shard.size), real_number(tol, "tol", above=0, below=1),
            None if deflate is None else flag(deflate, "deflate"), whole_number(max_iterations, "max_iterations", 1),
            whole_number(seed, "seed", 0),
        ),
    )  # fmt: skip
    x, before = as_vector(shard, p), shard.products
    operator = _Compression(shard, x, deflate)
    search = _Search(shard, operator, most, np.random.default_rng([seed, shard.comm.rank]))
    operator.lift = search.largest()
    values, vectors = search.lowest(k, tol)
    residuals = np.array([operator.residual(*pair) for pair in zip(values, vectors, strict=True)])
    wanted = tol * operator.lift
    if residuals.max(initial=0.0) > 10 * wanted:
        warn(f"SLEPc stopped at residuals of up to {residuals.max():.1e}, not {wanted:.1e}")
    for vector in vectors:
        operator.to_packed(vector)
    return LowestPairs(np.array(values), vectors, residuals, shard.products - before, operator.deflated)


class _Compression(Shell):
    """The Hessian in coordinates of samples, compressed to the complement of the rotations, which `lift` moves up."""

    def __init__(self, shard: Shard, x: PETSc.Vec, deflate: bool | None) -> None:
        super().__init__()
        self._shard, self._hessian = shard, HessianShell(shard, x, in_samples=True)
        self._root = shard.metric()
        self._root.sqrtabs()
        point = x.duplicate()
        point.pointwiseMult(x, self._root)
        self._point = Point(*(part.astype(np.float64) for part in shard.local(point, readonly=True)))
        self.lift, self.deflated = 0.0, 0
        if deflate or (deflate is None and self._is_critical(x)):
            self._prepare_rotations()

    def _is_critical(self, x: PETSc.Vec) -> bool:
        _, gradient = self._shard.fun_and_grad(x)
        gradient.pointwiseDivide(gradient, self._root)
        g, rho = self._shard.local(gradient, readonly=True), self._shard.ufm.rho
        squares = [float(np.sum(part**2)) for part in (g.W, g.H, self._point.W, self._point.H)]
        gW, gH, W, H = np.sqrt(self._total(np.array(squares)))
        critical: bool = math.hypot(rho * gW, gH / rho) <= _CRITICAL * self._shard.ufm.tau * math.hypot(
            W / rho, rho * H
        )
        return critical

    def _total(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        self._shard.comm.Allreduce(MPI.IN_PLACE, numbers)
        return numbers

    def _prepare_rotations(self) -> None:
        """Diagonalise W^T W + H^T H of all ranks; every rank has the same bits."""
        p, d = self._point, self._shard.ufm.d
        squares, self._turn = linalg.eigh(self._total(p.W.T @ p.W + p.H.T @ p.H))
        sums = np.add.outer(squares, squares)
        rank = int(np.count_nonzero(squares > ABSENT**2 * squares[-1])) if squares[-1] > 0 else 0
        self.deflated = rank * (rank - 1) // 2 + rank * (d - rank)
        present = sums > ABSENT**2 * max(squares[-1], 0.0)
        self._inverse = np.where(present, 1 / np.where(present, sums, 1.0), 0.0)

    def across_rotations(self, v: PETSc.Vec) -> PETSc.Vec:
        """Return v without its component (W S, H S) along the rotations, where these are left out.

        S solves M S + S M = C - C^T for M = W^T W + H^T H and C = W^T V_W + H^T V_H.
        """
        v = v.copy()
        if self.deflated:
            p, part = self._point, self._shard.local(v)
            C = self._turn.T @ self._total(p.W.T @ part.W + p.H.T @ part.H) @ self._turn
            S = self._turn @ ((C - C.T) * self._inverse) @ self._turn.T
            part.W[...] -= p.W @ S
            part.H[...] -= p.H @ S
        return v

    def multiply(self, v: PETSc.Vec, y: PETSc.Vec) -> None:
        """Write the operator times v to y."""
        across = self.across_rotations(v)
        self._hessian.multiply(across, y)
        if self.deflated:
            self.across_rotations(y).copy(y)
            y.axpy(self.lift, v)
            y.axpy(-self.lift, across)

    def residual(self, value: float, v: PETSc.Vec) -> float:
        """Return the norm of the operator times v less a multiple of v."""
        image = v.duplicate()
        self.multiply(v, image)
        image.axpy(-value, v)
        norm: float = image.norm()
        return norm

    def to_packed(self, v: PETSc.Vec) -> None:
        """Change a vector from coordinates of samples to those of points."""
        v.pointwiseDivide(v, self._root)


class _Search:
    """Searches for extreme eigenvalues of an operator from random vectors."""

    def __init__(self, shard: Shard, operator: _Compression, most: int, generator: np.random.Generator) -> None:
        self._shard, self._operator, self._most, self._generator = shard, operator, most, generator
        self._matrix = shell(shard, operator)

    def largest(self) -> float:
        """Return about the largest eigenvalue."""
        values, _ = self._solve(SLEPc.EPS.Which.LARGEST_REAL, 1, _ROUGH, [])
        return values[0]

    def lowest(self, k: int, tol: float) -> tuple[list[float], list[PETSc.Vec]]:
        """Return the k lowest pairs, the values ascending."""
        found: list[tuple[float, PETSc.Vec]] = []
        size = self._shard.size - self._operator.deflated
        while len(found) < size:
            known = [vector for _, vector in found]
            values, vectors = self._solve(
                SLEPc.EPS.Which.SMALLEST_REAL, max(1, min(k, size) - len(found)), tol * self._operator.lift, known
            )
            complete = len(found) >= k and (not values or values[0] >= found[k - 1][0])
            if complete or not values:
                break
            found = sorted([*found, *zip(values, vectors, strict=True)], key=lambda pair: pair[0])
        found = found[:k]
        return [value for value, _ in found], [vector for _, vector in found]

    def _solve(
        self, which: Any, count: int, accuracy: float, known: Sequence[PETSc.Vec]
    ) -> tuple[list[float], list[PETSc.Vec]]:
        relative = which == SLEPc.EPS.Which.LARGEST_REAL
        eps = SLEPc.EPS().create(comm=self._shard.comm)
        eps.setOperators(self._matrix)
        eps.setProblemType(SLEPc.EPS.ProblemType.HEP)
        eps.setWhichEigenpairs(which)
        eps.setDimensions(count, min(self._shard.size, max(_SPACE, 2 * count)))
        eps.setConvergenceTest(SLEPc.EPS.Conv.REL if relative else SLEPc.EPS.Conv.ABS)
        eps.setTolerances(accuracy, self._most)
        if known:
            eps.setDeflationSpace(list(known))
        eps.setInitialSpace(self._start())
        eps.setOptionsPrefix(PREFIX)
        eps.setFromOptions()
        eps.solve()
        values, vectors = [], []
        for i in range(min(count, eps.getConverged())):
            vector = self._shard.vector()
            values.append(float(eps.getEigenpair(i, vector).real))
            vectors.append(vector)
        eps.destroy()
        return values, vectors

    def _start(self) -> PETSc.Vec:
        x = self._shard.vector()
        x.array_w[...] = self._generator.standard_normal(self._shard.local_size)
        return self._operator.across_rotations(x)
