"""The C++ core on its own: it configures without Python, and its tests pass, with assertions on."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "cpp"


@pytest.mark.skipif(sys.platform == "win32" or shutil.which("c++") is None, reason="needs a C++ compiler")
def test_the_core_builds_and_passes_its_tests(tmp_path):
    tools = Path(pytest.importorskip("cmake").CMAKE_BIN_DIR)
    ninja = Path(pytest.importorskip("ninja").BIN_DIR) / "ninja"
    eigen = metadata.distribution("cmeel-eigen").locate_file("")
    options = ["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DCMAKE_PREFIX_PATH={eigen}"]
    options += ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-O1 -Werror", "-DCMAKE_CXX_FLAGS_DEBUG="]
    options += ["-DUFM_FAST_LEVELS=baseline"]
    subprocess.run([tools / "cmake", "-S", SOURCE, "-B", tmp_path, *options], check=True)
    subprocess.run([tools / "cmake", "--build", tmp_path], check=True)
    subprocess.run([tools / "ctest", "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error"], check=True)
