"""From the options that describe data to samples per class, class weights and targets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import typer
from numpy.typing import NDArray

import ufm_fast as uf

from .._io.files import FileError, reading
from .._io.numpy_files import read_archive
from .._landscape.path_families import power_weights
from .._model.datasets import exponential_counts, inverse_hint
from .files import read_counts, read_numbers
from .options import DEFAULT_COUNTS, DEFAULT_K

_CSR = "data", "indices", "indptr", "shape"
_OF_ROWS = "n", "weights", "ridges"


@dataclass(frozen=True)
class Data:
    """What a model is fitted to.

    Attributes
    ----------
    K : int
    samples : float
        All of them; of rows with targets, the sum of their ridges.
    sizes : ndarray or None
        Samples per class, where there are classes.
    arguments : dict
        Of `UFM`.
    """

    K: int
    samples: float
    sizes: NDArray[np.int64] | None
    arguments: dict[str, Any]


def data_of(
    K: int | None,
    n: int | None,
    counts: str | None,
    imbalance: float | None,
    weights: str | None = None,
    targets: Path | None = None,
) -> Data:
    """Find the data that the options describe.

    Raises
    ------
    typer.BadParameter
        If they contradict each other, or what they name does not exist or is not what it should be.
    """
    if targets is None:
        sizes = class_counts(K, n, counts, imbalance)
        chosen = {} if weights is None else {"weights": class_weights(weights, sizes)}
        return Data(len(sizes), float(sizes.sum(dtype=float)), sizes, {"n": sizes, **chosen})
    beside = {"--n": n, "--counts": counts, "--imbalance": imbalance, "--class-weights": weights}
    for option, value in beside.items():
        if value is not None:
            raise typer.BadParameter("the file of --targets describes all of the data", param_hint=option)
    rows = read_targets(targets)
    return Data(_classes_of(rows["targets"], K), _samples_of(rows), None, rows)


def class_counts(K: int | None, n: int | None, counts: str | None, imbalance: float | None) -> NDArray[np.int64]:
    """Find the samples per class that the options ask for.

    Raises
    ------
    typer.BadParameter
        If the options contradict each other, or what they name does not exist or is no list of positive integers.
    """
    if counts is None and K is None and n is None:
        counts = DEFAULT_COUNTS
    if counts is None:
        return counts_of_options(DEFAULT_K if K is None else K, 1 if n is None else n, imbalance)
    if n is not None:
        raise typer.BadParameter("give either --n or --counts, not both", param_hint="--n")
    if not Path(counts).exists() or Path(counts).is_dir():
        try:
            sizes = uf.counts(counts, imbalance)
        except ValueError as error:
            raise typer.BadParameter(f"no such file, and as a data set: {error}", param_hint="--counts") from error
    elif imbalance is not None:
        raise typer.BadParameter("counts from a file are taken as they are", param_hint="--imbalance")
    else:
        try:
            sizes = read_counts(Path(counts))
        except (FileError, OSError) as error:
            raise typer.BadParameter(str(error), param_hint="--counts") from error
    if K not in (None, len(sizes)):
        raise typer.BadParameter(f"{K} classes, but --counts {counts} has {len(sizes)}", param_hint="--K")
    return sizes


def counts_of_options(K: int, n: int, imbalance: float | None) -> NDArray[np.int64]:
    """Let class sizes fall exponentially from `n` to `n` / `imbalance`, rounded down as in long-tailed data sets."""
    if K < 2:
        raise typer.BadParameter(f"at least 2 classes are needed, not {K}", param_hint="--K")
    if n < 1:
        raise typer.BadParameter(f"at least 1 sample a class is needed, not {n}", param_hint="--n")
    if imbalance is None:
        return np.full(K, n)
    if not 1 <= imbalance <= n:
        message = f"it must lie between 1 and n = {n}, not {imbalance:g}{inverse_hint(imbalance)}"
        raise typer.BadParameter(message, param_hint="--imbalance")
    return exponential_counts(K, n, imbalance)


def class_weights(words: str, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weights of the classes that --class-weights asks for.

    Raises
    ------
    typer.BadParameter
        If it is neither "balanced" nor a power of n nor a file of as many positive numbers as there are classes.
    """
    if words == "balanced" or words.startswith("n^"):
        try:
            power = -1.0 if words == "balanced" else float(words[2:])
        except ValueError as error:
            raise typer.BadParameter(f"{words} is no power of n, as n^-0.5", param_hint="--class-weights") from error
        return power_weights(sizes, power)
    try:
        return read_numbers(Path(words))
    except FileNotFoundError as error:
        message = f"{words} is neither balanced nor a power of n, as n^-0.5, nor a file"
        raise typer.BadParameter(message, param_hint="--class-weights") from error
    except (FileError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--class-weights") from error


def read_targets(path: Path) -> dict[str, Any]:
    """Read what --targets names: the arguments targets and, where they are there, n, weights and ridges of a `UFM`.

    Raises
    ------
    typer.BadParameter
        If it is no .npz archive with targets or a sparse matrix as scipy.sparse.save_npz writes it.
    """
    try:
        arrays = read_archive(path)
        with reading(path):
            return {"targets": _targets_in(arrays), **{name: arrays[name] for name in _OF_ROWS if name in arrays}}
    except (FileError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--targets") from error


def _targets_in(arrays: dict[str, NDArray[Any]]) -> Any:
    if "targets" in arrays:
        return arrays["targets"]
    missing = [name for name in _CSR if name not in arrays]
    if missing or arrays.get("format", np.array(b"csr")).item() != b"csr":
        raise ValueError("it must hold an array named targets, or a matrix in CSR format from scipy.sparse.save_npz")
    data, indices, starts, shape = (arrays[name] for name in _CSR)
    return scipy.sparse.csr_array((data, indices, starts), shape=tuple(shape))


def _classes_of(targets: Any, K: int | None) -> int:
    if K is None and len(targets.shape) != 2:
        raise typer.BadParameter("labels do not tell the number of classes", param_hint="--K")
    return int(targets.shape[1]) if K is None else K


def _samples_of(rows: dict[str, Any]) -> float:
    """Add up the ridges of the rows, or their samples where ridges are not given."""
    each = np.asarray(rows.get("ridges", rows.get("n", 1.0)), dtype=float)
    return float(each.sum()) if each.ndim else float(each) * rows["targets"].shape[0]
