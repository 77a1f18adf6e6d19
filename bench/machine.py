"""The machine: what it is, and how many fused multiply-adds its cores can do."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ufm_fast as uf
from instructions import compiler_flag

PACKAGES = (
    "ufm-fast", "numpy", "scipy", "torch", "jax", "jaxlib", "curvlinops-for-pytorch", "primme",
    "cvxpy", "scs", "clarabel",
)  # fmt: skip
PEAK_STEPS = 2_000_000


@cache
def _peak_library() -> ctypes.CDLL:
    compiler = os.environ.get("CXX", "c++")
    source = Path(__file__).with_name("fma_peak.cpp")
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory) / "fma_peak.so"
        flags = ["-O3", compiler_flag(), "-ffp-contract=fast", "-shared", "-fPIC", "-pthread"]
        subprocess.run([compiler, *flags, str(source), "-o", str(library)], check=True)
        loaded = ctypes.CDLL(str(library))
    for function in (loaded.fma_peak_double, loaded.fma_peak_single):
        function.argtypes, function.restype = [ctypes.c_int, ctypes.c_long], ctypes.c_double
    return loaded


def fma_peak(dtype: str, threads: int) -> float:
    """Measure floating-point operations a second of so many threads at once, in about 0.03 s."""
    function = _peak_library().fma_peak_double if dtype == "float64" else _peak_library().fma_peak_single
    return function(threads, PEAK_STEPS)


def _processor() -> str:
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def description() -> dict[str, str]:
    """Describe processor, instruction set, BLAS and versions, without paths or host names."""
    config = uf.show_config(mode="dicts")
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "load average before the run": f"{os.getloadavg()[0]:.2f}",
        "system": f"{platform.system()} {platform.machine()}",
        "instruction set of ufm-fast": config["instruction_set"],
        "BLAS of ufm-fast": re.sub(r" \(.*\)$", "", config["blas"]),
        "Python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
    }
