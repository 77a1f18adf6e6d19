"""The examples in C and C++, built as projects of their own against the installed package: as the Python package."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ufm_fast as uf

EXAMPLES = Path(__file__).parents[1] / "examples"
INSTALLED = Path(uf.get_cmake_dir())

pytestmark = pytest.mark.skipif(not INSTALLED.exists(), reason="the CMake package is part of installed packages only")


def configure(source, build):
    """Run CMake on a project that finds the installed package; return CMake's path."""
    command = Path(pytest.importorskip("cmake").CMAKE_BIN_DIR) / "cmake"
    options = [f"-Dufm_fast_DIR={INSTALLED}", "-DCMAKE_BUILD_TYPE=Release"]
    if sys.platform != "win32":
        ninja = Path(pytest.importorskip("ninja").BIN_DIR) / "ninja"
        options += ["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    subprocess.run([command, "-S", source, "-B", build, *options], check=True)
    return command


@pytest.fixture
def run_example(tmp_path):
    """Build an example with CMake and run it; return the numbers that it prints, or why one is missing, by name."""

    def run(language, compiler):
        if sys.platform != "win32" and shutil.which(compiler) is None:
            pytest.skip(f"needs {compiler}")
        command = configure(EXAMPLES / language, tmp_path)
        subprocess.run([command, "--build", tmp_path, "--config", "Release"], check=True)
        executable = next(path for path in (tmp_path / "solve", tmp_path / "Release" / "solve.exe") if path.exists())
        printed = subprocess.run([executable], check=True, capture_output=True, text=True).stdout
        found = {}
        for line in printed.splitlines():
            name, _, value = line.rpartition(" ")
            skipped = ": " in line
            found[line.partition(":")[0] if skipped else name] = line if skipped else float(value)
        return found

    return run


def check_derivatives(found, ufm):
    """At the point and along the direction of the examples."""
    i = np.arange(1.0, ufm.size + 1)
    value, gradient = ufm.fun_and_grad(np.sin(i))
    product = ufm.hessp(np.sin(i), np.cos(i))
    assert found["loss"] == pytest.approx(value, rel=1e-12)
    assert found["slope"] == pytest.approx(gradient @ np.cos(i), rel=1e-12)
    assert found["curvature"] == pytest.approx(product @ np.cos(i), rel=1e-12)


def test_c(run_example):
    ufm = uf.UFM(3, 4, [50, 50, 5], lambda_W=5e-3, lambda_H=1e-3, lambda_b=1e-2)
    found = run_example("c", "cc")
    check_derivatives(found, ufm)
    assert found["minimum"] == pytest.approx(uf.global_minimum(ufm).value, rel=1e-10)


def test_cpp(run_example):
    ufm = uf.UFM(10, 12, [100] * 5 + [10] * 5, lambda_W=5e-3, lambda_H=1e-4, lambda_b=1e-2)
    found = run_example("cpp", "c++")
    check_derivatives(found, ufm)
    if isinstance(found["minimum"], str):
        pytest.skip(found["minimum"])
    assert found["status of lbfgs"] == 0
    assert found["minimum"] == pytest.approx(uf.global_minimum(ufm).value, rel=1e-10)
    if isinstance(found["lowest eigenvalue at zero"], str):
        pytest.skip(found["lowest eigenvalue at zero"])
    zero = ufm.unpack(np.zeros(ufm.size))
    hessian = ufm.hessian(zero) @ np.eye(ufm.size)
    assert found["lowest eigenvalue at zero"] == pytest.approx(np.linalg.eigvalsh(hessian)[0], rel=1e-9)
    assert found["lowest eigenvalue at the minimum"] == pytest.approx(0, abs=1e-7)


PROJECT = """
cmake_minimum_required(VERSION 3.21)
project(own LANGUAGES CXX)
if(HAS_EIGEN)
  add_library(Eigen3::Eigen INTERFACE IMPORTED)
endif()
find_package(ufm_fast 0.1 REQUIRED)
get_target_property(folders ufm_fast::ufm_fast INTERFACE_INCLUDE_DIRECTORIES)
get_target_property(libraries ufm_fast::ufm_fast INTERFACE_LINK_LIBRARIES)
file(WRITE "${CMAKE_BINARY_DIR}/found" "${folders};${libraries}")
"""


@pytest.mark.parametrize("own", [True, False])
def test_eigen_of_the_project_comes_before_the_installed_headers(own, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(f"set(HAS_EIGEN {own})\n{PROJECT}", encoding="utf-8")
    configure(tmp_path, tmp_path / "build")
    found = (tmp_path / "build" / "found").read_text(encoding="utf-8").split(";")
    assert ("Eigen3::Eigen" in found) == own
    assert any(entry.endswith("/eigen3") for entry in found) != own
