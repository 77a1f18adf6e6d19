"""Points that treat exchangeable classes alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert

from .._model.canonical import CanonicalProblem
from .._model.model import UFM, rows_of_classes
from .._model.point import Point
from .._runtime.arrays import Array
from .._runtime.memory import require_memory
from .groups import Groups


@dataclass(frozen=True, eq=False)
class SymmetricPoint:
    """A point that treats classes of a group alike, in a few numbers: what a K x d array would hold, unexpanded.

    The groups are m in number, group i with ``classes[i]`` classes in blocks of ``size[i]`` that share all parameters.
    In canonical class coordinates ``A = W / rho``, ``B_k = rho sqrt(n_k) h_k`` with
    ``rho = (lambda_H / lambda_W)^(1/4)``, the scores ``B A^T`` are ``contrast[i]`` on differences between blocks of
    group i, and ``mean_B @ mean_A.T`` on the normalised indicators of the groups.

    Attributes
    ----------
    ufm : UFM
    group : ndarray of int, shape (K,)
        Group of each class.
    block : ndarray of int, shape (K,)
        Block of each class within its group.
    classes, size : ndarray, shape (m,)
    contrast : ndarray, shape (m,)
    mean_A, mean_B : ndarray, shape (m, r)
    bias : ndarray, shape (m,)
        Bias of the classes of each group.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(1000, 1000, [500] * 400 + [5] * 600, lambda_W=1e-4, lambda_H=1e-6)
    >>> point = uf.global_minimum(ufm).factored
    >>> len(point.classes), point.mean_A.shape[0]
    (2, 2)
    >>> int(point.logits(7).argmax())
    7
    """

    ufm: UFM
    group: NDArray[np.intp]
    block: NDArray[np.intp]
    classes: Array
    size: Array
    contrast: Array
    mean_A: Array
    mean_B: Array
    bias: Array

    @property
    def rank(self) -> int:
        """Number of columns of W and H that are needed: their rank, or in a point of many groups a little more.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(100, 100, [500] * 40 + [5] * 60, lambda_W=2e-3, lambda_H=1e-5)
        >>> uf.global_minimum(ufm).factored.rank
        40
        """
        return int(self.contrast_ranks.sum() + self.mean_A.shape[1])

    def point(self) -> Point:
        """Expand to a point of the model: K x d and M x d arrays.

        Raises
        ------
        ValueError
            If the model's d is less than the rank.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(100, 100, [500] * 40 + [5] * 60, lambda_W=1e-4, lambda_H=1e-6)
        >>> uf.certify(ufm, uf.global_minimum(ufm).factored.point()).is_global(1e-8)
        True
        """
        if self.rank > self.ufm.d:
            raise ValueError(f"a point of rank {self.rank} does not fit into a model with d = {self.ufm.d}")
        require_memory("point", 3 * self.ufm.size, K=self.ufm.K, M=self.ufm.M, d=self.ufm.d)
        A, B = self.factors()
        missing = ((0, 0), (0, self.ufm.d - self.rank))
        return CanonicalProblem(self.ufm).point(np.pad(A, missing), np.pad(B, missing), self.bias[self.group])

    def factors(self) -> tuple[Array, Array]:
        """Return A and B in canonical class coordinates with as many columns as their rank.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(100, 100, [500] * 40 + [5] * 60, lambda_W=1e-4, lambda_H=1e-6)
        >>> A, B = uf.global_minimum(ufm).factored.factors()
        >>> bool(np.allclose(A.T @ A, B.T @ B))
        True
        """
        A, B = np.zeros((self.ufm.K, self.rank)), np.zeros((self.ufm.K, self.rank))
        column = 0
        for i, width in enumerate(self.contrast_ranks):
            if width > 0:
                members = np.flatnonzero(self.group == i)
                frame = helmert(width + 1).T * np.sqrt(self.contrast[i] / self.size[i])
                A[members, column : column + width] = B[members, column : column + width] = frame[self.block[members]]
                column += width
        unit = 1 / np.sqrt(self.classes)[:, None]
        A[:, column:], B[:, column:] = (self.mean_A * unit)[self.group], (self.mean_B * unit)[self.group]
        return A, B

    def logits(self, k: int) -> Array:
        """Return the K logits of the samples of class k, without expanding the point.

        Examples
        --------
        >>> import numpy as np
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(100, 100, [500] * 40 + [5] * 60, lambda_W=1e-4, lambda_H=1e-6)
        >>> minimum = uf.global_minimum(ufm)
        >>> W, H, b = minimum.point
        >>> bool(np.allclose(minimum.factored.logits(7), W @ H[7] + b))
        True
        """
        i = self.group[k]
        same = self.group == i
        scores = (self.mean_A @ self.mean_B[i] / np.sqrt(self.classes * self.classes[i]))[self.group]
        scores[same] -= self.contrast[i] / self.classes[i]
        scores[same & (self.block == self.block[k])] += self.contrast[i] / self.size[i]
        logits: Array = scores / np.sqrt(rows_of_classes(self.ufm).ridges[k]) + self.bias[self.group]
        return logits

    @property
    def contrast_ranks(self) -> NDArray[np.int64]:
        """Rank of the differences between blocks of each group.

        Examples
        --------
        >>> import ufm_fast as uf
        >>> ufm = uf.UFM(100, 100, [500] * 40 + [5] * 60, lambda_W=2e-3, lambda_H=1e-5)
        >>> uf.global_minimum(ufm).factored.contrast_ranks.tolist()
        [0, 39]
        """
        blocks = np.rint(self.classes / self.size).astype(np.int64)
        ranks: NDArray[np.int64] = (blocks - 1) * (self.contrast > 0)
        return ranks


def point_of_classes(
    ufm: UFM, groups: Groups, group: NDArray[np.intp], contrast: Array, mean_A: Array, mean_B: Array, bias: Array
) -> SymmetricPoint:
    """Return the point where each class is a block of its own; `bias` times the root of the number of classes."""
    M = groups.classes
    order = np.argsort(group, kind="stable")
    block = np.empty(ufm.K, dtype=np.intp)
    starts = np.cumsum(M) - M
    block[order] = np.arange(ufm.K) - np.repeat(starts, M.astype(np.intp)).astype(np.intp)
    return SymmetricPoint(ufm, group, block, M, groups.size, contrast, mean_A, mean_B, bias / np.sqrt(M))
