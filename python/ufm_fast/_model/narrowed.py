"""A point of a very wide model, seen in as many features as its rows span."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._runtime import linalg
from .._runtime.arrays import Array
from .model import UFM, in_double
from .point import Point


def spanning_axes(W: Array, H: Array, spare: int) -> tuple[Array, Array]:
    """Return orthonormal columns that span the rows of W and H, and as many further ones as are to be spare.

    And the triangle R of the QR decomposition that has them as Q: the transpose of its first columns is W and H along
    these axes.
    """
    columns = np.hstack([W.T, H.T, np.eye(W.shape[1], spare)])
    axes, triangle = linalg.scipy_qr(columns, mode="economic", overwrite_a=True, check_finite=False)
    return axes, triangle


def narrowed(ufm: UFM, p: Point, spare: int = 0, worth: float = 2.0) -> tuple[UFM, Point, Array | None]:
    """Turn the feature space so that W and H need its first axes only, and leave out all but some of the others.

    Loss, gradient and Hessian do not depend on the axes, and all that is left out are directions in which W and H
    vanish, each of them like the ones that stay.

    Parameters
    ----------
    ufm : UFM
    p : Point
    spare : int, optional
        Axes to keep in which W and H vanish.
    worth : float, optional
        How many times as many features as axes kept there must be, for the decomposition to cost less than it saves.

    Returns
    -------
    UFM
        The same model in float64 with as many features as W and H have rows, and the spare ones, where that is far
        fewer; else `ufm`.
    Point
        p in these features.
    ndarray of shape (d, features), or None
        The axes, orthonormal: W of p is W of the point returned times their transpose. None if nothing was done.

    Notes
    -----
    Cost: a QR decomposition of d x (K + M + spare), backward stable, so that the point is that of a change of W and H
    by a few roundings. Memory: two arrays of this size.
    """
    rows = len(p.W) + len(p.H)
    if ufm.d < worth * (rows + spare):
        return ufm, p, None
    axes, triangle = spanning_axes(p.W.astype(float, copy=False), p.H.astype(float, copy=False), spare)
    X = np.ascontiguousarray(triangle[:, :rows].T)
    narrow = in_double(ufm, collapse=ufm.collapse_classes, d=rows + spare)
    return narrow, Point(X[: len(p.W)], X[len(p.W) :], p.b.astype(np.float64)), axes


def widened(p: Point, axes: Array | None, dtype: np.dtype[Any]) -> Point:
    """Undo `narrowed` for a point or a direction, in the dtype of the model that was given."""
    wide = p if axes is None else Point(p.W @ axes.T, p.H @ axes.T, p.b)
    return Point(*(part.astype(dtype, copy=False) for part in wide))
