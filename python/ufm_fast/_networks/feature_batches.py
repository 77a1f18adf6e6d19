"""Features a batch at a time, and what takes several passes over them: their mean and their principal directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from .._runtime import linalg
from .._runtime.arrays import Array
from .features import Features, refuse_infinite


class FeatureBatches(Features):
    """Features of which none is left out, checked to be finite, and read in batches as float64.

    Parameters
    ----------
    H : array, or what has a shape and gives arrays when sliced
    d : int or None
        None for any.
    n : int, optional
        Rows of W.

    Attributes
    ----------
    N, d : int
    precision : float
        Twice the relative rounding of the floating-point type that they are read as.
    largest : float
        The largest norm of a feature.
    mean : ndarray, shape (d,)
    """

    def __init__(self, H: Any, d: int | None, n: int | None = None) -> None:
        super().__init__(H, d, n)
        self.precision = self.largest = 0.0
        total = np.zeros(self.d)
        for rows, batch in self.read():
            self.precision = max(self.precision, float(np.finfo(batch.dtype).eps))
            features = batch.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                squares = (features**2).sum(axis=1)
            if not np.isfinite(squares).all():
                refuse_infinite(batch, range(rows.start, rows.stop))
                row = rows.start + int(np.isinf(squares).argmax())
                raise ValueError(f"H must be smaller: the squares of row {row} overflow")
            self.largest = max(self.largest, float(np.sqrt(squares.max())))
            total += features.sum(axis=0)
        self.mean: Array = total / self.N

    def about(self, centre: Array) -> Iterator[tuple[slice, Array]]:
        """Yield which rows these are, and the features less the centre."""
        for rows, batch in self.read():
            yield rows, batch.astype(np.float64) - centre

    @staticmethod
    def group_sums(batch: Array, group: NDArray[np.int64], count: int) -> Array:
        """Add up the features of each of so many groups, (count, d); those of a negative group are left out."""
        kept = np.flatnonzero(group >= 0)
        members = csr_array((np.ones(len(kept)), (group[kept], kept)), (count, len(batch)))
        return np.asarray(members @ batch)

    def principal(self, centre: Array) -> tuple[Array, Array]:
        """Return singular values about a centre, descending, and orthonormal directions in rows, (min(N, d), d).

        From the triangular factors of batches on top of each other, as accurate as from all features at once.
        """
        triangle: Array = np.zeros((0, self.d))
        for _, batch in self.about(centre):
            triangle = np.asarray(linalg.qr(np.vstack([triangle, batch]), mode="r"))
        _, values, directions = linalg.svd(triangle, full_matrices=False)
        return values, directions
