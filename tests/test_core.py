"""The C++ core on its own: it configures without Python, and its tests pass, with assertions on."""

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "cpp"


pytestmark = pytest.mark.skipif(sys.platform == "win32" or shutil.which("c++") is None, reason="needs a C++ compiler")


def configured(folder, levels):
    """Configure the core in a folder; return where CMake's programs are."""
    tools = Path(pytest.importorskip("cmake").CMAKE_BIN_DIR)
    ninja = Path(pytest.importorskip("ninja").BIN_DIR) / "ninja"
    eigen = metadata.distribution("cmeel-eigen").locate_file("")
    options = ["-GNinja", f"-DCMAKE_MAKE_PROGRAM={ninja}", f"-DCMAKE_PREFIX_PATH={eigen}"]
    options += ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-O1 -Werror", "-DCMAKE_CXX_FLAGS_DEBUG="]
    subprocess.run([tools / "cmake", "-S", SOURCE, "-B", folder, *options, f"-DUFM_FAST_LEVELS={levels}"], check=True)
    return tools


def test_the_core_builds_and_passes_its_tests(tmp_path):
    tools = configured(tmp_path, "baseline")
    subprocess.run([tools / "cmake", "--build", tmp_path], check=True)
    subprocess.run([tools / "ctest", "--test-dir", tmp_path, "--output-on-failure", "--no-tests=error"], check=True)


def test_it_configures_with_the_level_of_this_machine_too(tmp_path):
    """The targets of a level are named by it, and no other target has such a name."""
    tools = configured(tmp_path, "baseline;native")
    command = [tools / "cmake", "--build", tmp_path, "--target", "help"]
    targets = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert {"ufm_fast_baseline:", "ufm_fast_native:"} <= set(targets.split())
