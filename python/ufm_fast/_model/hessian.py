"""The Hessian at a point as a SciPy linear operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from .._runtime.arguments import real_array, refuse_masked, whole_number
from .._runtime.memory import spares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .packing import Layout


class SymmetricOperator(LinearOperator):  # type: ignore[misc]  # SciPy is untyped
    """A symmetric operator on packed vectors, which may not be masked."""

    def dot(self, x: Any) -> Any:
        """Multiply by a vector, a block of them or another operator; SciPy's own drops masks."""
        refuse_masked(x, "v")
        return super().dot(x)

    def _adjoint(self) -> SymmetricOperator:
        return self


class HessianOperator(SymmetricOperator):
    """The Hessian of a UFM at a fixed point in one of two coordinates; symmetric. Made by `UFM.hessian`.

    Vectors of real numbers of any dtype and layout are converted to the model's dtype, in which the products are. The
    operator does not change, so threads may share it.
    """

    def __init__(
        self,
        dtype: np.dtype[Any],
        layout: Layout,
        problem: Any,
        run: Callable[..., Any],
        x: NDArray[Any],
        scale: NDArray[Any] | None,
        memory: int | None,
    ) -> None:
        super().__init__(dtype, (layout.size, layout.size))
        self._problem, self._run, self._x, self._scale = problem, run, x, scale
        needed = layout.M * layout.K * dtype.itemsize
        affordable = spares(needed) if memory is None else needed <= whole_number(memory, "memory", 0)
        self._states = run(problem.row_states, *layout.unpack(x)) if affordable else None

    def _matvec(self, v: NDArray[Any]) -> NDArray[Any]:
        return self._matmat(v.reshape(-1, 1))[:, 0]

    def _matmat(self, V: NDArray[Any]) -> NDArray[Any]:
        V = real_array(V, "v", self.dtype)
        if self._scale is not None:
            V = V * self._scale[:, None]
        if not (V.flags.forc and V.flags.aligned):
            V = V.copy()
        products: NDArray[Any] = self._run(self._problem.flat_hvps, self._x, V, self._states)
        return products.T if self._scale is None else products.T * self._scale[:, None]
