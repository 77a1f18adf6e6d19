"""Arrays as users hand them in, converted to NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Convert to an array; masked ones, whose mask NumPy would drop without a word, are refused."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: fill its masked entries, or drop their samples")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be an array of numbers, but it cannot be read as one: {error}") from error


def _kind(values: Any, array: NDArray[Any]) -> str:
    """Name the type of ``values`` where NumPy saw no numbers in it, and of its entries otherwise."""
    return type(values).__name__ if array.dtype.kind == "O" and array.ndim == 0 else str(array.dtype)


def as_real(values: Any, name: str) -> NDArray[Any]:
    """Convert to an array of floats of at most 64 bits or of integers."""
    array = as_array(values, name)
    if array.dtype.kind not in "fiu" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be float32 or float64, not {_kind(values, array)}")
    return array


def as_integers(values: Any, name: str) -> NDArray[np.int64]:
    """Convert to an array of integers that fit 64 bits with a sign."""
    array = as_array(values, name)
    if array.dtype.kind not in "iu" and not (array.dtype.kind == "f" and array.size == 0):
        raise TypeError(f"{name} must be integers, not {_kind(values, array)}")
    if array.dtype.kind == "u" and array.size and array.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be below 2^63, but there is {array.max()}")
    return array.astype(np.int64, copy=False)
