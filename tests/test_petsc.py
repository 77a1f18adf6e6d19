"""Models over MPI ranks: the programs of tests/mpi under mpiexec, where an interpreter has petsc4py and slepc4py."""

import re

import pytest

from ranks import ROOT, Ranks


@pytest.fixture(scope="module")
def run_ranks(tmp_path_factory):
    return Ranks(tmp_path_factory.mktemp("packages"), "mpi4py.MPI, petsc4py.PETSc, slepc4py.SLEPc").run


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
