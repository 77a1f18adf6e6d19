"""examples/many_files.py: statistics of files, merged across processes, MPI and Dask, and NC4 in a second pass."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ufm_fast as uf
from ranks import Ranks

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPT = """
import json, os, sys, tempfile
from pathlib import Path
import many_files
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        files = many_files.make(Path(folder))
        found = many_files.measure(files, Path(folder) / "head.npz", sys.argv[1])
    numbers = {name: float(value) for name, value in vars(found).items() if type(value) in (int, float)}
    Path(sys.argv[2], f"{os.getpid()}.json").write_text(json.dumps(numbers))  # what ranks print can share a line
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """All at once."""
    spec = importlib.util.spec_from_file_location("many_files", EXAMPLES / "many_files.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    folder = tmp_path_factory.mktemp("files")
    files = [np.load(file) for file in example.make(folder)]
    head = np.load(folder / "head.npz")
    H, labels = (np.concatenate([file[name] for file in files]) for name in ("H", "labels"))
    return uf.nc_metrics(head["W"], H, labels, head["b"])


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


PATH = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])


def written(folder):
    """What each process of the script found."""
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


def found(script, by):
    environment = os.environ | {"PYTHONPATH": PATH}
    command = [sys.executable, str(script), by, str(script.parent)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = written(script.parent)
    return result


def check(result, expected):
    assert result["nc4_agreement"] == expected.nc4_agreement
    for name, value in result.items():
        assert value == pytest.approx(getattr(expected, name), rel=1e-6, nan_ok=True), name


def test_processes(script, expected):
    result = found(script, "processes")
    assert 0.9 < result["nc4_agreement"] < 1
    check(result, expected)


def test_dask(script, expected):
    pytest.importorskip("dask.bag")
    check(found(script, "dask"), expected)


@pytest.mark.parametrize("number", [2, 3])
def test_mpi(script, expected, number, tmp_path):
    Ranks(tmp_path, "mpi4py.MPI").run(number, script, "mpi", tmp_path, folders=[EXAMPLES])
    results = written(tmp_path)
    assert len(results) == number
    for result in results:
        check(result, expected)
