"""Which arrays in files ``ufm-fast inspect`` is to measure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._io.feature_files import (
    StoredArrays,
    agreed,
    check_same_rows,
    open_arrays,
    split_address,
    stacked,
    stacked_features,
)
from .._io.stored import StoredArray

#: What arrays that do not fit raise, or that are too large; an OSError names its file by itself.
REFUSALS = (ValueError, TypeError, ImportError, ArithmeticError, MemoryError)
#: What a bias is called beside its classifier.
_BIASES = {"weight": "bias", "W": "b"}
_EXACT = 2.0**53  # whole numbers up to it are themselves in float64


@dataclass(frozen=True)
class Addresses:
    """How the options name the arrays: ``NAME``, ``FILE:NAME`` or ``FILE``; None for those left to be found.

    Attributes
    ----------
    W, H, labels, b, classes : str or None
    """

    W: str | None
    H: str | None
    labels: str | None
    b: str | None
    classes: str | None

    def files(self) -> list[Path]:
        """Return the files that they name."""
        given = (self.W, self.H, self.labels, self.b, self.classes)
        return [file for address in given if address and (file := split_address(address)[0]) is not None]


@dataclass(frozen=True)
class Chosen:
    """The arrays to be measured: features to be read in batches, all else in memory.

    Attributes
    ----------
    arrays : dict
        Arguments of `ufm_fast.inspect`, by name.
    sources : dict of str to str
        Where each is, in words.
    """

    arrays: dict[str, Any]
    sources: dict[str, str]

    def located(self, message: str) -> str:
        """Add to a message about an argument where it comes from."""
        named = re.match(r"(W|H|labels|b|classes)\b", message)
        if named and named[0] in self.sources:
            return f"{message} ({named[0]} is {self.sources[named[0]]})"
        return f"{message} ({', '.join(self.sources.values())})"


@contextmanager
def chosen_arrays(files: Sequence[Path], addresses: Addresses, *, W_needed: bool) -> Iterator[Chosen]:
    """Open files, and those that the addresses name, and choose arrays.

    Raises
    ------
    ValueError
        If an array is not there, or several are and differ.
    OSError, ImportError
        As `open_arrays`.
    """
    real = [realpath(file) for file in files]
    twice = next((file for file, path in zip(files, real, strict=True) if real.count(path) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    more = {path: file for file in addresses.files() if (path := realpath(file)) not in real}
    if not files and not more:
        raise ValueError("there must be a FILE, of which the arrays are to be read")
    with open_arrays(*files, addressed=tuple(more.values())) as arrays:
        yield _chosen(arrays, addresses, W_needed=W_needed)


def _chosen(arrays: StoredArrays, addresses: Addresses, *, W_needed: bool) -> Chosen:
    found: dict[str, Any] = {"W": None}
    sources: dict[str, str] = {}
    if addresses.W or W_needed or "W" in arrays:
        parts = _find(arrays, "W", addresses.W)
        found["W"], sources["W"] = agreed(parts), str(parts[0])
        bias = _find(arrays, "b", addresses.b) if addresses.b else _beside(arrays, parts[0])
        if bias:
            found["b"], sources["b"] = _vector(agreed(bias)), str(bias[0])
    features = stacked_features(_find(arrays, "H", addresses.H))
    labels = stacked(_find(arrays, "labels", addresses.labels))
    check_same_rows(features, labels)
    found["H"], found["labels"] = features, _integers(labels[:])
    sources |= {"H": str(features), "labels": str(labels)}
    if addresses.classes:
        parts = _find(arrays, "classes", addresses.classes)
        found["classes"], sources["classes"] = _integers(agreed(parts)), str(parts[0])
    return Chosen(found, sources)


def _find(arrays: StoredArrays, argument: str, address: str | None) -> list[StoredArray]:
    try:
        return arrays.find(address or argument, argument)
    except ValueError as error:
        if address:
            raise
        raise ValueError(f"{error}; --{argument} NAME says which it is") from error


def _beside(arrays: StoredArrays, W: StoredArray) -> list[StoredArray]:
    """Find the bias that belongs to a classifier: in its file, or the array b."""
    for weight, bias in _BIASES.items():
        if W.name.endswith(weight):
            there = arrays.named(W.name.removesuffix(weight) + bias, W.file)
            if there:
                return there
    return arrays.named("b")


def _vector(array: NDArray[Any]) -> NDArray[Any]:
    """Take an array with one long axis, such as a column of MATLAB's, as a vector."""
    return array.reshape(-1) if array.ndim > 1 and array.size == max(array.shape) else array


def _integers(labels: NDArray[Any]) -> NDArray[Any]:
    """Take labels as a vector; floating-point numbers that are whole, as MATLAB and tables have them, as integers."""
    array = _vector(labels)
    if array.dtype.kind != "f":
        return array
    whole = (array == np.trunc(array)) & (abs(array) <= _EXACT)
    return array.astype(np.int64) if whole.all() else array
