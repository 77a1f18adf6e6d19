"""Points on disk, together with the model they belong to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._io.files import read_archive, reading, write_file
from .._runtime.threads import checked_threads
from .losses import describe_loss, described_loss
from .model import UFM
from .point import Point, checked_point


def describe_ufm(ufm: UFM) -> dict[str, Any]:
    """Give all that defines a model but its threads, in JSON's types."""
    return {
        "K": ufm.K,
        "d": ufm.d,
        "n": ufm.counts.tolist(),
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
    keys = "K", "d", "n", "loss", "lambda_W", "lambda_H", "lambda_b", "bias", "collapse", "dtype"
    missing = [key for key in keys if key not in description]
    if missing:
        raise ValueError(f"the description of the model lacks {', '.join(missing)}")
    values = {key: description[key] for key in keys}
    values["loss"] = described_loss(description)
    return UFM(**values, threads=threads)


def save_point(path: str | os.PathLike[str], ufm: UFM, p: Point) -> None:
    """Save a point and its model, for `load_point` and for ``ufm-fast solve --start``, ``classify`` and ``spectrum``.

    Parameters
    ----------
    path : path
        Of an .npz archive with the arrays W, H, b and counts and the model as JSON text, config. A file is replaced
        when all is written, a pipe or device written in place.
    ufm : UFM
    p : Point
        As for `UFM.loss`.

    Raises
    ------
    TypeError, ValueError
        If p is not a point of the model.
    OSError
        If the file cannot be written.
    """
    arrays = checked_point(p, ufm.layout, ufm.dtype)._asdict()
    config = json.dumps(describe_ufm(ufm))
    write_file(Path(path), lambda stream: np.savez_compressed(stream, **arrays, counts=ufm.counts, config=config))


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
    """
    path = Path(path)
    threads = None if threads is None else checked_threads(threads, "threads")
    arrays = read_archive(path, ("W", "H", "b", "config"))
    with reading(path):
        config = json.loads(str(arrays["config"]))
        ufm = described_ufm(config if isinstance(config, dict) else {}, threads=threads)
        return ufm, checked_point(Point(*(np.ascontiguousarray(arrays[name]) for name in "WHb")), ufm.layout, ufm.dtype)
