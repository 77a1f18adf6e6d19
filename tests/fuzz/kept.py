"""Every kind of file that the package reads, small: those of tests/saved.py and all else that commands are given."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse
import typer

import ufm_fast as uf
from feature_writers import CHECKED, WRITERS
from saved import COUNTS, KINDS, UFM, Kind, loaded_arrays
from ufm_fast._io.files import FileError
from ufm_fast.cli.data import read_targets
from ufm_fast.cli.files import read_counts, read_numbers

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
FEATURES = (np.arange(39).reshape(13, 3) ** 2 - 7).astype(np.float32)
TARGETS = np.eye(3)[[0, 1, 2, 2]]
TENSORS = ("state_dict.module.fc.weight", "fc.bias", "columns", "every_second", "half", "numpy_columns", "labels")


def walked(path):
    return {"rows": uf.path(UFM, [1e-3, 2e-3], checkpoint=path).rows}


def saved_targets(path):
    np.savez_compressed(path, targets=TARGETS, n=[1.0, 2.0, 3.0, 0.5])


def saved_sparse_targets(path):
    scipy.sparse.save_npz(path, scipy.sparse.csr_array(TARGETS))


def loaded_targets(path):
    try:
        rows = read_targets(path)
    except typer.BadParameter as error:  # what the program says of it
        raise FileError(error.message) from error
    targets = rows.pop("targets")
    return {"targets": targets.toarray() if scipy.sparse.issparse(targets) else targets, **rows}


def counted(read):
    return lambda path: {"n": read(path)}


def text_kind(name, content, read, *, checked=False):
    return Kind(name, lambda path: path.write_text(content, encoding="utf-8"), counted(read), checked)


def feature_kind(name):
    suffix, write = WRITERS[name]
    return Kind(f"H{suffix}", lambda path: write(path, FEATURES), partial(loaded_arrays, names=("H",)), name in CHECKED)


def tensor_kind(name, *, checked):
    read = partial(loaded_arrays, names=TENSORS)
    return Kind("model.pt", partial(shutil.copy, CHECKPOINTS / name), read, checked)


EVERY = {
    **KINDS,
    "path": Kind("path.npz", walked, walked, True),
    "targets": Kind("targets.npz", saved_targets, loaded_targets, True),
    "sparse targets": Kind("targets.npz", saved_sparse_targets, loaded_targets, True),
    "counts in text": text_kind("n.txt", "# counts\n" + ", ".join(map(str, COUNTS)), read_counts),
    "counts in JSON": text_kind("n.json", json.dumps(COUNTS.tolist()), read_counts),
    "weights in text": text_kind("w.txt", " ".join(map(str, COUNTS / 7)), read_numbers),
    "list of images": text_kind("list.txt", "".join(f"a/{k}.jpg {k % 5}\n" for k in range(30)), read_counts),
    "tensors": tensor_kind("zipped.pt", checked=True),
    "tensors, older": tensor_kind("older.pt", checked=False),
    **{f"features: {name}": feature_kind(name) for name in WRITERS},
}
