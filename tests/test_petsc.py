"""Models over MPI ranks: the programs of tests/mpi under mpiexec, where an interpreter has petsc4py and slepc4py.

That interpreter is the running one, or the one that the environment variable UFM_FAST_PETSC_PYTHON names. It gets this
package, compiled for the same Python, from where the running one has it.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ufm_fast

ROOT = Path(__file__).parents[1]
NAMED = os.environ.get("UFM_FAST_PETSC_PYTHON")
NEEDED = "import mpi4py.MPI, petsc4py.PETSc, slepc4py.SLEPc, ufm_fast as uf; uf.UFM(2, 2, lambda_W=1, lambda_H=1)"


def output_of(command, packages, seconds):
    """Run a command with one thread a process, and only this package on top of an interpreter's own."""
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    container = {"OMPI_MCA_btl_vader_single_copy_mechanism": "none"}  # needs a permission that containers lack
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **root, **container, **threads, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=seconds, check=False, cwd=ROOT
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def run_ranks(tmp_path_factory):
    """Run a program on so many ranks and return its output; skip where that is impossible."""
    packages, python = tmp_path_factory.mktemp("packages"), NAMED or sys.executable
    refuse = pytest.fail if NAMED else pytest.skip
    mpiexec = shutil.which("mpiexec")
    if mpiexec is None:
        refuse("mpiexec is not installed")
    (packages / "ufm_fast").symlink_to(Path(ufm_fast.__file__).parent, target_is_directory=True)
    code, _, error = output_of([python, "-c", NEEDED], packages, 60)
    if code:
        refuse(f"{python} cannot run ufm_fast.petsc: {error.splitlines()[-1] if error else code}")
    crowded = ["--oversubscribe"] if "Open" in output_of([mpiexec, "--version"], packages, 60)[1] else []

    def run(ranks, *program):
        command = [mpiexec, *crowded, "-n", str(ranks), python, "-m", "mpi4py", *map(str, program)]
        code, output, error = output_of(command, packages, 240)
        assert code == 0, error
        return output

    return run


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("program", ["shards", "classes", "solvers", "networks"])
def test_program(program, ranks, run_ranks):
    """Each prints the names of its checks when they have passed on all ranks."""
    path = ROOT / "tests" / "mpi" / f"{program}.py"
    checks = path.read_text(encoding="utf-8").rpartition("run(")[2].partition(")")[0]
    assert run_ranks(ranks, path).split() == re.findall(r"\w+", checks)


def test_programs_of_the_page(run_ranks, tmp_path):
    """One after another, as one program of two ranks."""
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python mpi\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert blocks
    program = tmp_path / "page.py"
    program.write_text("\n".join(blocks), encoding="utf-8")
    run_ranks(2, program)


def test_examples_of_docstrings(run_ranks, tmp_path):
    program = tmp_path / "examples.py"
    program.write_text(
        "import doctest\n"
        "import ufm_fast.petsc as petsc\n"
        "for name in petsc.__all__:\n"
        "    for example in doctest.DocTestFinder().find(getattr(petsc, name), name, module=False):\n"
        "        assert doctest.DocTestRunner().run(example).failed == 0\n",
        encoding="utf-8",
    )
    run_ranks(1, program)


def test_example(run_ranks):
    output = run_ranks(2, ROOT / "examples" / "petsc_solve.py", "--classes", "8")
    assert "on 2 ranks" in output
    assert "bntr from there: global minimum: certified relative gap" in output
