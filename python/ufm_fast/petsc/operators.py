"""Shell matrices: symmetric operators that PETSc and SLEPc multiply vectors by."""

from __future__ import annotations

import atexit

from petsc4py import PETSc

from .distribution import Distribution

# When Python takes down its modules, a shell matrix that still lives would call the module of its context, which may be
# gone, and the process would crash: PETSc ends before.
if "_finalize" in vars(PETSc):
    atexit.register(vars(PETSc)["_finalize"])


def shell(distribution: Distribution, context: Shell) -> PETSc.Mat:
    """Return a symmetric matrix whose products are those of a context."""
    sizes = (distribution.local_size, distribution.size)
    matrix = PETSc.Mat().createPython((sizes, sizes), context, comm=distribution.comm)
    matrix.setOption(PETSc.Mat.Option.SYMMETRIC, True)
    matrix.setUp()
    return matrix


class Shell:
    """A symmetric operator, to which a multiple of the identity may be added: PETSc's NLS does that."""

    def __init__(self) -> None:
        self._added, self._factor = 0.0, 1.0

    def multiply(self, v: PETSc.Vec, y: PETSc.Vec) -> None:
        """Write the operator times v to y."""
        raise NotImplementedError

    def mult(self, _: PETSc.Mat, v: PETSc.Vec, y: PETSc.Vec) -> None:
        """As PETSc calls it."""
        self.multiply(v, y)
        if self._factor != 1:
            y.scale(self._factor)
        if self._added:
            y.axpy(self._added, v)

    def multTranspose(self, matrix: PETSc.Mat, v: PETSc.Vec, y: PETSc.Vec) -> None:
        """As PETSc calls it."""
        self.mult(matrix, v, y)

    def shift(self, _: PETSc.Mat, number: float) -> None:
        """Add a multiple of the identity."""
        self._added += number

    def scale(self, _: PETSc.Mat, number: float) -> None:
        """Multiply by a number."""
        self._factor *= number
        self._added *= number

    def reset(self) -> None:
        """Forget shifts and factors."""
        self._added, self._factor = 0.0, 1.0
