"""Points of a model, and their checks."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._runtime import arguments as check
from .packing import Layout


class Point(NamedTuple):
    """A point, direction or gradient of a UFM.

    Attributes
    ----------
    W : ndarray, shape (K, d)
        Classifier.
    H : ndarray, shape (M, d)
        Features, one a row (the transpose of the papers' H).
    b : ndarray, shape (K,)
        Bias; zeros in a model without bias.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> W, H, b = ufm.random_point(0)
    >>> 0 < ufm.loss(uf.Point(W, H, 0 * b))
    True
    """

    W: NDArray[Any]
    H: NDArray[Any]
    b: NDArray[Any]


def parts_of(p: Any, name: str = "p") -> tuple[Any, Any, Any]:
    """Return the three parts of a point, which may be any tuple or list of three, or raise."""
    if not isinstance(p, (tuple, list)) or len(p) != 3:
        raise TypeError(f"{name} must be a Point (W, H, b), not {check.shown(p)}")
    return p[0], p[1], p[2]


def checked_point(p: Point, layout: Layout, dtype: np.dtype[Any]) -> Point:
    """Return p if its parts are finite arrays of this dtype and the layout's shapes, otherwise raise."""
    parts = parts_of(p)
    K, d = layout.K, layout.columns
    for name, array, shape in zip("WHb", parts, ((K, d), (layout.M, d), (layout.biases,)), strict=True):
        check.refuse_masked(array, name)
        if not isinstance(array, np.ndarray) or array.dtype != dtype:
            kind = f"dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{name} must be a {dtype} array, not {kind}")
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, not {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, but holds a NaN or an infinity")
    if not layout.bias and parts[2].any():
        raise ValueError("b must be zeros in a model without bias")
    return Point(*map(np.asarray, parts))
