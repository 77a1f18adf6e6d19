"""Models over MPI ranks: the programs of tests/mpi under mpiexec, where an interpreter has petsc4py and slepc4py.

That interpreter is the running one, or the one that the environment variable UFM_FAST_PETSC_PYTHON names, which imports
this package from where the running one has it.
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import ufm_fast

HERE = Path(__file__).parent
PACKAGE = Path(ufm_fast.__file__).parents[1]
NEEDED = "import mpi4py.MPI, petsc4py.PETSc, slepc4py.SLEPc, ufm_fast as uf; uf.UFM(2, 2, lambda_W=1, lambda_H=1)"


def environment():
    """For one thread a rank, root's permission for Open MPI, and this package."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    path = os.pathsep.join(filter(None, [str(PACKAGE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **root, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def started(command, seconds):
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=seconds, check=False, cwd=HERE.parent
    )
    return done.returncode, done.stdout, done.stderr


@cache
def launcher():
    """The command before a program of so many ranks; skip where there is none."""
    python, mpiexec = os.environ.get("UFM_FAST_PETSC_PYTHON", sys.executable), shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("mpiexec is not installed")
    code, _, error = started([python, "-c", NEEDED], 60)
    if code:
        pytest.skip(f"{python} cannot run ufm_fast.petsc: {error.splitlines()[-1] if error else code}")
    crowded = ["--oversubscribe"] if "Open" in started([mpiexec, "--version"], 60)[1] else []
    return [mpiexec, *crowded, "-n"], [python, "-m", "mpi4py"]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("program", ["shards", "solvers", "networks"])
def test_program(program, ranks):
    """Each prints the names of its checks when they have passed on all ranks."""
    mpiexec, python = launcher()
    path = HERE / "mpi" / f"{program}.py"
    code, output, error = started([*mpiexec, str(ranks), *python, str(path)], 240)
    assert code == 0, error
    last = path.read_text(encoding="utf-8").rpartition("run(")[2].partition(")")[0]
    assert output.split() == [name.strip() for name in last.split(",") if name.strip()]
