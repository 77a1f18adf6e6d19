"""The projector onto the rotations of the feature space at a point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._runtime import linalg
from .._runtime.arguments import real_array
from .hessian import SymmetricOperator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .packing import Layout


ABSENT = 1e-6  # relative size of a direction of the feature space that counts as absent from W and H


class RotationProjector(SymmetricOperator):
    """The orthogonal projector onto the directions (X S, 0), S skew-symmetric, for W on top of H as X.

    Made by `UFM.rotations`. With the singular value decomposition X = U diag(s) Q^T of rank r, the nearest X S to V has
    ``(Q^T S Q)_ij = (s_i A_ij - s_j A_ji) / (s_i^2 + s_j^2)`` for ``A = U^T V Q``, and the part of U U^T V beyond the
    span of Q is of this form as it is. Singular values up to 1e-6 of the largest count as zero.

    Attributes
    ----------
    dimension : int
        Of the space that it projects onto, r (d - r) + r (r - 1)/2.
    """

    def __init__(self, W: NDArray[Any], H: NDArray[Any], layout: Layout) -> None:
        super().__init__(W.dtype, (layout.size, layout.size))
        X = np.vstack([W, H]).astype(np.float64)
        U, values, rows = linalg.svd(X, full_matrices=False)
        rank = int((values > ABSENT * values[0]).sum())
        self._shape, self._end = X.shape, layout.end_H
        self._left, self._values, self._right = U[:, :rank], values[:rank], rows[:rank]
        self.dimension = rank * (X.shape[1] - rank) + rank * (rank - 1) // 2

    def _matvec(self, v: NDArray[Any]) -> NDArray[Any]:
        vector = real_array(v, "v", np.float64).reshape(-1)
        V = vector[: self._end].reshape(self._shape)
        onto = self._left.T @ V
        within = onto @ self._right.T
        s = self._values
        numerators = s[:, None] * within
        skew = (numerators - numerators.T) / (s[:, None] ** 2 + s**2)
        projected = self._left @ (onto + (s[:, None] * skew - within) @ self._right)
        result = np.zeros(len(vector), self.dtype)
        result[: self._end] = projected.reshape(-1)
        return result
