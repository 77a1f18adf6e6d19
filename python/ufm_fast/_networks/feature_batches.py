"""Features a batch at a time, and what takes several passes over them: their mean and their principal directions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runtime.arrays import Array
from .arrays import as_real
from .features import as_features

_ROWS = 4096


class FeatureBatches:
    """Finite features of shape (N, d), checked and read in batches as float64.

    Parameters
    ----------
    H : array, or what has a shape and gives arrays when sliced
    d : int

    Attributes
    ----------
    N, d : int
    precision : float
        Twice the relative rounding of the type that they come in.
    largest : float
        The largest norm of a feature.
    mean : ndarray, shape (d,)
    """

    def __init__(self, H: Any, d: int) -> None:
        self._H = H if hasattr(H, "shape") and not isinstance(H, np.ma.MaskedArray) else as_real(H, "H")
        if len(self._H.shape) != 2 or self._H.shape[1] != d:
            as_features(self._H, d)  # which says what is wrong
        self.N, self.d = int(self._H.shape[0]), d
        if self.N < 1:
            raise ValueError("H must hold samples, but has 0 rows")
        self.precision = self.largest = 0.0
        total = np.zeros(d)
        for rows, batch in self._read():
            self.precision = max(self.precision, float(np.finfo(batch.dtype).eps))
            features = batch.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                squares = (features**2).sum(axis=1)
            if not np.isfinite(squares).all():
                row = rows.start + int(np.flatnonzero(~np.isfinite(squares))[0])
                raise ValueError(f"H must be finite and of moderate size, but row {row} is not")
            self.largest = max(self.largest, float(np.sqrt(squares.max())))
            total += features.sum(axis=0)
        self.mean: Array = total / self.N

    def _read(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        for first in range(0, self.N, _ROWS):
            rows = slice(first, min(first + _ROWS, self.N))
            yield rows, as_features(self._H[rows], self.d)

    def about(self, centre: Array) -> Iterator[tuple[slice, Array]]:
        """Yield which rows these are, and the features less the centre."""
        for rows, batch in self._read():
            yield rows, batch.astype(np.float64) - centre

    def principal(self, centre: Array) -> tuple[Array, Array]:
        """Return singular values about a centre, descending, and orthonormal directions in rows, (min(N, d), d).

        From the triangular factors of batches on top of each other, as accurate as from all features at once.
        """
        triangle: Array = np.zeros((0, self.d))
        for _, batch in self.about(centre):
            triangle = np.asarray(np.linalg.qr(np.vstack([triangle, batch]), mode="r"))
        _, values, directions = np.linalg.svd(triangle, full_matrices=False)
        return values, directions
