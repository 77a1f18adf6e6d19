"""Points on disk, together with the model they belong to."""

from __future__ import annotations

import base64
import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from .._io.files import reading, write_file
from .._io.numpy_files import read_archive
from .._runtime import arguments as check
from .._runtime.threads import checked_threads
from .facts import checked_model
from .losses import describe_loss, described_loss
from .model import UFM, rows_model
from .point import Point, checked_point
from .rows import Rows
from .targets import checked_targets


def describe_ufm(ufm: UFM) -> dict[str, Any]:
    """Give all that defines a model but its threads, in JSON's types.

    Of rows with targets, "rows" has the arrays: each its type, shape and compressed bytes, the latter in base 64.
    """
    return {
        "K": ufm.K,
        "d": ufm.d,
        **_describe_data(ufm),
        **describe_loss(ufm.loss_function),
        "lambda_W": ufm.lambda_W,
        "lambda_H": ufm.lambda_H,
        "lambda_b": ufm.lambda_b,
        "bias": ufm.bias,
        "collapse": ufm.collapse_classes,
        "dtype": str(np.dtype(ufm.dtype)),
    }


def described_ufm(description: Mapping[str, Any], *, threads: int | None = None) -> UFM:
    """Make the model that `describe_ufm` described; further keys are ignored.

    Raises
    ------
    ValueError, TypeError
        If a key is missing, or the model rejects a value.
    """
    rows = description.get("rows")
    keys = ["K", "d", "loss", "lambda_W", "lambda_H", "lambda_b", "bias", "dtype"]
    keys += ["n", "collapse"] if rows is None else []
    missing = [key for key in keys if key not in description]
    if missing:
        raise ValueError(f"the description of the model lacks {', '.join(missing)}")
    values = {key: description[key] for key in keys}
    values["loss"] = described_loss(description)
    if rows is None:
        return UFM(**values, weights=description.get("weights"), threads=threads)
    K, d = values.pop("K"), values.pop("d")
    return rows_model(K, d, _described_rows(rows, K), **values, threads=threads)


def _check_classes(description: Mapping[str, Any], biases: int) -> None:
    """Refuse a number of classes that does not go with a bias, before memory is taken for a model of so many."""
    K = description.get("K")
    if isinstance(K, int) and "loss" in description:
        loss = described_loss(description)
        loss.check(K)
        if loss.biases(K) != biases:
            raise ValueError(f"b must have shape ({loss.biases(K)},) for K = {K}, not ({biases},)")


def _describe_data(ufm: UFM) -> dict[str, Any]:
    if ufm.counts is not None:
        weights = {} if ufm.weights is None else {"weights": ufm.weights.tolist()}
        return {"n": ufm.counts.tolist(), **weights}
    rows = ufm.data
    parts = rows.targets if isinstance(rows.targets, tuple) else (rows.targets,)
    described = {"targets": [_encoded(part) for part in parts]}
    return {"rows": described | {"weights": _encoded(rows.weights), "ridges": _encoded(rows.ridges), "N": rows.N}}


def _described_rows(description: Mapping[str, Any], K: int) -> Rows:
    targets: Any = tuple(_decoded(part) for part in description["targets"])
    weights, ridges = _decoded(description["weights"]), _decoded(description["ridges"])
    M = len(weights)
    if len(targets) == 3:
        starts, columns, entries = targets
        targets = (scipy.sparse.csr_array((entries, columns, starts), shape=(M, K)),)
    return Rows(
        checked_targets(targets[0], K),
        check.positive_numbers(weights, "weights", M, "rows"),
        check.positive_numbers(ridges, "ridges", M, "rows"),
        description["N"],
    )


def _encoded(array: NDArray[Any]) -> dict[str, Any]:
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes()))
    return {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": packed.decode()}


def _decoded(description: Mapping[str, Any]) -> NDArray[Any]:
    content = zlib.decompress(base64.b64decode(description["bytes"]))
    return np.frombuffer(content, np.dtype(description["dtype"])).reshape(description["shape"])


def save_point(path: str | os.PathLike[str], ufm: UFM, p: Point) -> None:
    """Save a point and its model, for `load_point` and for ``ufm-fast solve --start``, ``classify`` and ``spectrum``.

    Parameters
    ----------
    path : path
        Of an .npz archive with the arrays W, H, b and, in a model of classes, counts, and the model as JSON text,
        config. A file is replaced when all is written, a pipe or device written in place.
    ufm : UFM
    p : Point
        As for `UFM.loss`.

    Raises
    ------
    TypeError, ValueError
        If p is not a point of the model.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     uf.save_point(Path(folder) / "start.npz", ufm, ufm.random_point(0))
    ...     model, p = uf.load_point(Path(folder) / "start.npz")
    >>> model.K, p.W.shape
    (5, (5, 5))
    """
    arrays = checked_point(p, checked_model(ufm).layout, ufm.dtype)._asdict()
    if ufm.counts is not None:
        arrays["counts"] = ufm.counts
    config = json.dumps(describe_ufm(ufm))
    write_file(check.file_path(path, "path"), lambda stream: np.savez_compressed(stream, **arrays, config=config))


def load_point(path: str | os.PathLike[str], *, threads: int | None = None) -> tuple[UFM, Point]:
    """Load what `save_point` or ``ufm-fast solve --output`` wrote.

    Parameters
    ----------
    path : path
    threads : int, optional
        Threads of the model.

    Returns
    -------
    UFM
    Point

    Raises
    ------
    ValueError
        If the file is no such archive, is damaged (its checksums are verified), or holds no point of the model.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import ufm_fast as uf
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     uf.save_point(Path(folder) / "start.npz", ufm, ufm.random_point(0))
    ...     model, p = uf.load_point(Path(folder) / "start.npz")
    >>> bool(model.loss(p) == ufm.loss(ufm.random_point(0)))
    True
    """
    path = check.file_path(path, "path")
    threads = checked_threads(threads, "threads")
    arrays = read_archive(path, ("W", "H", "b", "config"))
    with reading(path):
        config = json.loads(str(arrays["config"]))
        description = config if isinstance(config, dict) else {}
        _check_classes(description, arrays["b"].size)
        ufm = described_ufm(description, threads=threads)
        return ufm, checked_point(Point(*(np.ascontiguousarray(arrays[name]) for name in "WHb")), ufm.layout, ufm.dtype)
