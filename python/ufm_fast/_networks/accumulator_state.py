"""The state of an `NCAccumulator` as plain arrays and numbers: what its entries must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._runtime.arguments import choice, shown

FORMAT = "ufm_fast.NCAccumulator 1"
STATISTICS = ("full", "traces")  # with the d x d matrix S_W, or without

# The type of each array, and what its lengths are: an array that has a length which none had before sets it.
_NUMBERS = {
    "classes": (np.int64, ("K",)),
    "ignored": (np.int64, ("number of ignored labels",)),
    "left_out": (np.int64, ()),
    "precision": (np.float64, ()),
}
_PARTS = {
    "references": (np.float64, ("K", "d")),
    "sums": (np.float64, ("K", "d")),
    "counts": (np.int64, ("K",)),
    "settled_counts": (np.int64, ("K",)),
    "squares": (np.float64, ("K",)),
    "errors": (np.float64, ("K",)),
}
_SCATTER = {"scatter": (np.float64, ("d", "d"))}
_OF_ANY_SIGN = ("classes", "ignored", "references", "sums", "scatter")
# Of the trace of a scatter: its float32 products are off by at most 4096 * 2^-24 of moments up to 33 times as large.
_TOLERANCE = 0.01


def parts_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the compiled statistics keep."""
    return {name: state[name] for name in {**_PARTS, **_SCATTER} if name in state}


def checked(state: Any) -> dict[str, Any]:
    """Return the entries as strings and arrays of 64-bit numbers; an error names the first that is wrong."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state must be a mapping of names to arrays, not {type(state).__name__}")
    found: dict[str, Any] = {"format": _text(state, "format")}
    if found["format"] != FORMAT:
        raise ValueError(f"state['format'] must be {FORMAT!r}, not {shown(found['format'])}")
    found["statistics"] = choice(_text(state, "statistics"), "state['statistics']", STATISTICS)
    expected = {**_NUMBERS, **_PARTS, **(_SCATTER if found["statistics"] == "full" else {})}
    strange = [name for name in state if name not in found and name not in expected]
    if strange:
        raise ValueError(f"state must not have an entry {shown(strange[0])}")
    lengths: dict[str, int] = {}
    for name, (dtype, dimensions) in expected.items():
        found[name] = _array(_entry(state, name), name, dtype, dimensions, lengths)
    _check_counts(found)
    if "scatter" in found:
        _check_scatter(found["scatter"], found["squares"])
    return found


def _entry(state: Mapping[str, Any], name: str) -> Any:
    if name not in state:
        raise ValueError(f"state must have an entry {name!r}")
    return state[name]


def _text(state: Mapping[str, Any], name: str) -> str:
    """Return a string, which NumPy's files hold as an array without axes."""
    return str(_entry(state, name))


def _array(value: Any, name: str, dtype: Any, dimensions: tuple[str, ...], lengths: dict[str, int]) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.newbyteorder("=") != dtype and not (array.size == 0 and array.dtype == np.float64):  # []
        raise TypeError(f"state[{name!r}] must be {np.dtype(dtype)}, not {array.dtype}")
    known = dict(zip(dimensions, array.shape, strict=False)) | lengths
    wanted = tuple(known.get(dimension, dimension) for dimension in dimensions)
    if array.shape != wanted:
        raise ValueError(f"state[{name!r}] must have shape {wanted}, not {array.shape}")
    lengths.update(known)
    if not np.isfinite(array).all():
        raise ValueError(f"state[{name!r}] must be finite, but holds a NaN or an infinity")
    if name not in _OF_ANY_SIGN and (array < 0).any():
        raise ValueError(f"state[{name!r}] must not be negative, but holds {array.min()}")
    return np.require(array, dtype, ["C", "A"])


def _check_counts(found: dict[str, Any]) -> None:
    """Refuse counts that contradict the sums: there is nothing of a class without samples."""
    counts, settled = found["counts"], found["settled_counts"]
    if ((settled > counts) | ((settled == 0) & (counts > 0))).any():
        raise ValueError("state['settled_counts'] must be between 1 and the class's entry of state['counts']")
    for name in ("references", "sums", "squares", "errors"):
        if found[name][counts == 0].any():
            raise ValueError(f"state[{name!r}] must be zero for classes that have no samples by state['counts']")


def _check_scatter(scatter: NDArray[np.float64], squares: NDArray[np.float64]) -> None:
    """Refuse a scatter whose trace is not the sum of squares."""
    if np.tril(scatter, -1).any():
        raise ValueError("state['scatter'] must be zero below its diagonal")
    total = float(squares.sum())
    if abs(float(np.trace(scatter)) - total) > _TOLERANCE * total:
        raise ValueError(f"state['scatter'] must have a trace near the sum of state['squares'], {total:.6g}")
