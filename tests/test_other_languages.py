"""The programs of docs/c_and_cpp.md compile, and print the loss at zero: the logarithm of the number of classes."""

import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import c_library as c
import ufm_fast as uf

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "c_and_cpp.md").read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.skipif(not c.PATH.exists(), reason="the C library is part of installed packages only"),
    pytest.mark.skipif(sys.platform == "win32", reason="the commands are those of POSIX systems"),
]

PROGRAMS = {  # language: compiler, file, options of ufm-fast config, options of the compiler
    "c": ("cc", "first.c", ["--cflags", "--libs"], ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]),
    "rust": ("rustc", "first.rs", [], ["-L", uf.get_library_dir(), "-D", "warnings"]),
    "fortran": ("gfortran", "first.f90", ["--libs"], ["-Wall", "-Wextra", "-Werror"]),
}


def program(language):
    """The first program in this language on the page."""
    return re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[1]


@pytest.mark.parametrize("language", PROGRAMS)
def test_program(language, run, tmp_path):
    compiler, file, config, options = PROGRAMS[language]
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    (tmp_path / file).write_text(program(language), encoding="utf-8")
    if config:
        pytest.importorskip("typer")
        code, printed, _ = run("config", *config)
        assert code == 0
        options = [*options, *shlex.split(printed)]
    subprocess.run([compiler, file, "-o", "first", *options], cwd=tmp_path, check=True)
    environment = os.environ | {"LD_LIBRARY_PATH": uf.get_library_dir(), "DYLD_LIBRARY_PATH": uf.get_library_dir()}
    done = subprocess.run([tmp_path / "first"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{math.log(3):.6f}\n"


def test_cpp_program_compiles(run, tmp_path):
    """No more than that, and without the losses and drivers, which take long: other tests compile and run these."""
    pytest.importorskip("typer")
    if shutil.which("c++") is None:
        pytest.skip("needs c++")
    (tmp_path / "first.cpp").write_text(program("cpp"), encoding="utf-8")
    _, printed, _ = run("config", "--cxxflags")
    command = ["c++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *shlex.split(printed.replace("-I", "-isystem"))]
    compiled_elsewhere = [f"-I{ROOT / 'cpp' / 'compiled'}", "-include", "drivers.hpp"]
    subprocess.run([*command, *compiled_elsewhere, "first.cpp"], cwd=tmp_path, check=True)


def test_config_prints_what_compilers_need(run):
    pytest.importorskip("typer")
    include, library = uf.get_include(), uf.get_library_dir()
    assert run("config", "--cflags") == (0, f"{shlex.quote('-I' + include)}\n", "")
    assert run("config", "--cmakedir") == (0, f"{shlex.quote(uf.get_cmake_dir())}\n", "")
    assert shlex.split(run("config", "--cxxflags")[1]) == [f"-I{include}", f"-I{include}/eigen3", "-std=c++17"]
    assert shlex.split(run("config", "--libs")[1]) == [f"-L{library}", "-lufm_fast", f"-Wl,-rpath,{library}"]
    code, out, err = run("config")
    assert (code, out) == (2, "")
    assert "--cflags, --cxxflags, --libs and --cmakedir" in err
