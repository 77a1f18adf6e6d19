"""Checks of the arguments of public functions.

Each returns the plain Python object or array that an argument stands for, or raises an error that names the argument,
what it was and what it should be. NumPy's scalars and arrays without axes are numbers; booleans, strings and what is
masked are not, and no number is NaN or infinite.
"""

from __future__ import annotations

import math
import numbers
import operator
import os
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_LARGEST = 2**63 - 1  # number of samples, and of bytes in an array


def shown(value: Any) -> str:
    """Write a value in one short line."""
    return " ".join(reprlib.repr(value).split())


def as_array(value: ArrayLike, name: str) -> NDArray[Any]:
    """Return NumPy's array of a value that is not masked and has rows of one length."""
    refuse_masked(value, name)
    array: NDArray[Any] = _of_rows_of_one_length(np.asarray, value, name)
    return array


def dimensions(value: ArrayLike, name: str) -> int:
    """Return how many dimensions a value, which may be masked, has as an array; it has rows of one length."""
    return int(_of_rows_of_one_length(np.ndim, value, name))


def _of_rows_of_one_length(function: Callable[[ArrayLike], Any], value: ArrayLike, name: str) -> Any:
    try:
        return function(value)
    except ValueError:
        raise ValueError(f"{name} must have rows of one length, not {shown(value)}") from None


def file_path(value: str | os.PathLike[str], name: str) -> Path:
    """Return the path of a file."""
    try:
        return Path(value)
    except TypeError:
        raise TypeError(f"{name} must be the path of a file, not {shown(value)}") from None


def function(value: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Return what can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {shown(value)}")
    return value


def whole_number(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """Return an int between the limits, both included."""
    try:
        if isinstance(value, (bool, np.bool_, np.ma.MaskedArray)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, not {shown(value)}") from None
    if (least is not None and number < least) or (most is not None and number > most):
        wanted = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{name} must be {wanted}, not {shown(number)}")
    return number


def real_number(
    value: Any,
    name: str,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    most: float = math.inf,
) -> float:
    """Return a finite float with ``least <= value <= most`` and ``above < value < below``."""
    if type(value) is np.ndarray and value.ndim == 0:
        value = value[()]
    if isinstance(value, (bool, np.timedelta64)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, not {shown(value)}")
    try:
        number = float(value)
    except OverflowError:  # of an int
        number = math.inf
    if not (least <= number <= most and above < number < below):
        interval = f"[{least:g}" if least > above else f"({above:g}"
        interval += f", {most:g}]" if most < below else f", {below:g})"
        known = {"(0, inf)": "be positive and finite", "[0, inf)": "be non-negative and finite"}
        raise ValueError(f"{name} must {known.get(interval, f'lie in {interval}')}, not {shown(value)}")
    return number


def real_numbers(value: ArrayLike, name: str, *, above: float = -math.inf) -> tuple[float, ...]:
    """Return a sequence of finite real numbers above a limit as a tuple of floats, at least one."""
    array = real_array(value, name, float)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must be a sequence of numbers, not of shape {array.shape}")
    return tuple(real_number(number, f"{name}[{i}]", above=above) for i, number in enumerate(array.tolist()))


def flag(value: Any, name: str) -> bool:
    """Return True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def choice(value: Any, name: str, allowed: Sequence[str]) -> str:
    """Return one of the names that are allowed."""
    if not isinstance(value, str) or value not in allowed:
        *others, last = map(repr, allowed)
        raise ValueError(f"{name} must be {', '.join(others)} or {last}, not {shown(value)}")
    return str(value)


def refuse_masked(value: Any, name: str) -> None:
    """Raise an error if an array is masked: NumPy drops the mask where it converts one."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be a masked array (its method filled replaces what is masked)")


def real_array(value: ArrayLike, name: str, dtype: DTypeLike) -> NDArray[Any]:
    """Return real numbers as an array of a floating-point type: the array itself where it is one, else a copy."""
    array = as_array(value, name)
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, not values of dtype {array.dtype}")
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if not np.isfinite(converted).all():
        raise ValueError(f"{name} must be finite and within the range of {np.dtype(dtype)}")
    return converted


def real_vector(value: ArrayLike, name: str, size: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return real numbers, of shape (size,) or (size, 1), as a C-contiguous vector, copied only where it is none."""
    vector = value if type(value) is np.ndarray and value.dtype == dtype else real_array(value, name, dtype)
    if vector.shape == (size, 1):
        vector = vector[:, 0]
    if vector.shape != (size,):
        raise ValueError(f"{name} must have shape ({size},), not {vector.shape}")
    flags = vector.flags
    return vector if flags.c_contiguous and flags.aligned else vector.copy()


def addressable(size: int, dtype: DTypeLike, dimensions: str) -> None:
    """Raise an error if an array of so many numbers, which these dimensions make, cannot be addressed."""
    if size * np.dtype(dtype).itemsize > _LARGEST:
        raise ValueError(f"{dimensions} must be smaller: they make an array of {size} numbers, 2^63 bytes or more")


def float_type(value: DTypeLike, name: str) -> np.dtype[Any]:
    """Return float64 or float32 as a dtype, in the machine's byte order."""
    try:
        dtype = np.dtype(value)
    except (TypeError, ValueError):
        dtype = None
    if dtype not in (np.float64, np.float32):
        raise TypeError(f"{name} must be float64 or float32, not {shown(value)}")
    return dtype


def class_counts(n: ArrayLike, K: int) -> NDArray[np.int64]:
    """Return the samples of each of K classes, read-only."""
    counts = as_array(n, "n")
    if counts.dtype == object:  # ints beyond 64 bits
        counts = np.vectorize(lambda count: whole_number(count, "n"), otypes="O")(counts)
    elif counts.dtype.kind not in "iu":
        raise TypeError(f"n must be an int or {K} ints (samples per class), not values of dtype {counts.dtype}")
    if counts.ndim == 0:
        counts = np.full(K, counts)
    if counts.shape != (K,):
        raise ValueError(f"n must be an int or {K} ints (samples per class), not an array of shape {counts.shape}")
    if counts.min() < 1:
        raise ValueError(f"n must be positive, but class {counts.argmin()} has {counts.min()} samples")
    N = sum(counts.tolist())
    if N > _LARGEST:
        raise ValueError(f"n must sum to at most 2^63 - 1 samples, not to {N}")
    counts = counts.astype(np.int64)
    counts.flags.writeable = False
    return counts


def positive_numbers(value: ArrayLike, name: str, size: int, things: str) -> NDArray[np.float64]:
    """Return positive finite numbers, one for each of these things, read-only; a single number is for all of them."""
    array = as_array(value, name)
    wanted = f"{name} must be a positive number or {size} of them, one for each of the {things}, not"
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{wanted} values of dtype {array.dtype}")
    if array.ndim == 0:
        array = np.full(size, array)
    if array.shape != (size,):
        raise ValueError(f"{wanted} an array of shape {array.shape}")
    numbers = array.astype(np.float64)
    wrong = ~((numbers > 0) & np.isfinite(numbers))
    if wrong.any():
        raise ValueError(f"{name} must be positive and finite, but number {wrong.argmax()} is {array[wrong.argmax()]}")
    numbers.flags.writeable = False
    return numbers
