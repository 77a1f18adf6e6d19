"""Small files of every kind that the package reads: what is in them, who writes them, and what their readers give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

import ufm_fast as uf
from ufm_fast._io.feature_files import open_arrays
from ufm_fast._io.files import FileError
from ufm_fast._optimize.checkpoint import Checkpoint, describe_run
from ufm_fast.cli.files import read_counts

UFM = uf.UFM(3, 2, [5, 3, 1], lambda_W=1e-3, lambda_H=2e-4, lambda_b=1e-2)
POINT = UFM.random_point(0)
ARRAYS = {"W": POINT.W, "H": POINT.H, "labels": np.arange(3)}
CENSUS = ["census", "--K", 3, "--n", 5, "--imbalance", 1, "--loss", "mse", "--workers", 1]
COUNTS = np.arange(1, 40)
TARGETS = scipy.sparse.csr_array(np.eye(3)[[0, 1, 2, 2]])
RUN = describe_run(UFM, None, tol=1e-8, seed=0, restarts=0)


def saved_point(path):
    uf.save_point(path, UFM, POINT)


def saved_point_of_rows(path):
    ufm = uf.UFM(3, 2, targets=TARGETS, n=[1.0, 2.0, 0.5, 0.5], lambda_W=1e-3, lambda_H=2e-4)
    uf.save_point(path, ufm, ufm.random_point(0))


def loaded_point(path):
    ufm, p = uf.load_point(path)
    return {"model": repr(ufm), **p._asdict()}


def same(found, expected):
    if found.keys() != expected.keys():
        return False
    pairs = [(np.asanyarray(found[name]), np.asanyarray(value)) for name, value in expected.items()]
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def saved_census(path):
    uf.census(UFM, 2, path=path)


def loaded_census(path):
    found = uf.Census.load(path)
    return {"models": repr(found.models), "settings": found.settings, "records": found.records}


def saved_checkpoint(path):
    uf.minimize(UFM, checkpoint=path)


def loaded_checkpoint(path):
    return Checkpoint(path, RUN).content


def loaded_arrays(path, names=("labels",)):
    with open_arrays(path) as arrays:
        try:
            found = {name: arrays[name] for name in names}
        except ValueError as error:
            raise FileError(f"{path}: {error}") from error  # the command inspect names its options instead
        return {name: np.concatenate([rows[:1], rows[1:]]) for name, rows in found.items()}


def loaded_archive(path):
    return loaded_arrays(path, ARRAYS)


class Kind(NamedTuple):
    """A kind of file: its name, who writes it, who reads it, and whether it has checksums."""

    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], dict[str, Any]]
    checked: bool


#: What the package writes itself, and what NumPy writes.
KINDS = {
    "point": Kind("point.npz", saved_point, loaded_point, True),
    "point of rows": Kind("point.npz", saved_point_of_rows, loaded_point, True),
    "checkpoint": Kind("run.npz", saved_checkpoint, loaded_checkpoint, True),
    "census": Kind("census.jsonl", saved_census, loaded_census, True),
    "stored": Kind("arrays.npz", lambda path: np.savez(path, **ARRAYS), loaded_archive, True),
    "compressed": Kind("arrays.npz", lambda path: np.savez_compressed(path, **ARRAYS), loaded_archive, True),
    "npy": Kind("labels.npy", lambda path: np.save(path, COUNTS), loaded_arrays, False),
    "counts": Kind("labels.npy", lambda path: np.save(path, COUNTS), lambda path: {"n": read_counts(path)}, False),
}
