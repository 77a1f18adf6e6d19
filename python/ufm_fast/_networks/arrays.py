"""Arrays as users hand them in, converted to NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BFLOAT16 = 2.0**-7  # its eps, which NumPy does not know
_BLOCK = 2**17  # numbers that stay in the cache


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Convert to an array; masked ones, whose mask NumPy would drop without a word, are refused."""
    return _read(values, name)[0]


def precision_of(W: Any) -> float:
    """Return twice the relative rounding of the numbers that W came in; integers are exact."""
    return _read(W, "W")[1]


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
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must be below 2^63, but there is {array.max()}")
    return array.astype(np.int64, copy=False)


def as_single(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """Convert float16 to a C-contiguous array, to the same bits as ``astype`` does but several times faster.

    Sign, exponent and fraction are moved to where float32 has them. Then the exponent lacks the difference of the two
    offsets, 112, which a product with 2^112 adds exactly, to subnormal numbers too. Infinities and NaN would become
    finite: blocks with one are left to ``astype``, as is everything where the processor takes subnormals for zeros.
    """
    offset = np.float32(2.0**112)
    if offset * np.float32(2.0**-149) == 0:
        return np.ascontiguousarray(halves, dtype=np.float32)
    given = np.ascontiguousarray(halves, dtype=np.float16).reshape(-1)
    single = np.empty(given.size, dtype=np.float32)
    for first in range(0, given.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        bits, moved = given[block].view(np.int16), single[block].view(np.int32)
        moved[...] = bits  # which repeats the sign bit
        moved <<= 13
        moved &= np.int32(~0x70001FFF)
        single[block] *= offset
        if (bits & 0x7C00).max() == 0x7C00:
            single[block] = given[block]
    return single.reshape(halves.shape)


def _kind(values: Any, array: NDArray[Any]) -> str:
    """Name the type of ``values`` where NumPy saw no numbers in it, and of its entries otherwise."""
    return type(values).__name__ if array.dtype.kind == "O" and array.ndim == 0 else str(array.dtype)


def _read(values: Any, name: str) -> tuple[NDArray[Any], float]:
    """Return an array, float32 for bfloat16, and the precision of the type that its entries came in."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array: fill its masked entries, or drop their samples")
    short = str(getattr(values, "dtype", None)) == "torch.bfloat16"
    try:
        array = _converted(values.float() if short else values)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        device = str(getattr(values, "device", "cpu"))
        if "cpu" not in device.lower():
            raise TypeError(f"{name} must be in main memory, not on {device}: {name}.cpu() copies it there") from error
        raise TypeError(f"{name} must be an array of numbers, but it cannot be read as one: {error}") from error
    if short or array.dtype.name == "bfloat16":
        return array.astype(np.float32, copy=False), _BFLOAT16
    return array, float(np.finfo(array.dtype).eps) if array.dtype.kind == "f" else 0.0


def _converted(values: Any) -> NDArray[Any]:
    """Convert to an array by what the object offers: NumPy's protocols, DLPack or slices of rows."""
    if getattr(values, "requires_grad", False):
        values = values.detach()
    if not hasattr(values, "__array__"):
        if hasattr(values, "__dlpack__"):
            return np.from_dlpack(values)
        if hasattr(values, "shape"):
            values = values[:]
    is_frame = hasattr(values, "to_numpy") and hasattr(values, "isna")
    return _without_missing(values) if is_frame else np.asarray(values)


def _without_missing(values: Any) -> NDArray[Any]:
    """Convert a column or a frame of pandas, with NaN for numbers that are missing."""
    dtypes = list(values.dtypes) if hasattr(values, "columns") else [values.dtype]
    numbers = [getattr(dtype, "numpy_dtype", dtype) for dtype in dtypes]
    nullable = any(hasattr(dtype, "numpy_dtype") for dtype in dtypes)
    if not nullable or not all(isinstance(dtype, np.dtype) and dtype.kind in "fiu" for dtype in numbers):
        return np.asarray(values)
    if not np.asarray(values.isna()).any():
        return np.asarray(values.to_numpy(dtype=np.result_type(*numbers)))
    return np.asarray(values.to_numpy(dtype=np.result_type(np.float32, *numbers), na_value=np.nan))
