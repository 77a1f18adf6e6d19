"""The compiled module for the best instruction-set level that this machine runs; its public names are ours too.

The environment variable ``UFM_FAST_ISA`` forces a level.

Attributes
----------
isa : str
    Level of the module in use: "baseline", "v3" (AVX2 and FMA), "v4" (AVX-512) or "native" (a developer's build).
available : tuple of str
    Levels that are both compiled in and runnable here, best last.
reason : str
    Why this level was chosen.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

from .installed import get_library_dir


def _refuse_subinterpreters() -> None:
    """Raise ImportError in any interpreter of this process but the first.

    Before Python 3.12 pybind11 waits there forever; and the threads of BLAS, which all interpreters have in common, are
    counted by each for itself.
    """
    try:
        interpreters = import_module("_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters")
    except ImportError:  # a Python without them
        return
    if interpreters.get_current() != interpreters.get_main():
        raise ImportError("ufm_fast must be imported in the main interpreter of its process, not in a subinterpreter")


_refuse_subinterpreters()

from . import _cpu  # noqa: E402 - where it may be loaded at all


def _choose(requested: str | None) -> tuple[str, tuple[str, ...], str]:
    """Return ``isa``, ``available`` and ``reason``; ValueError if the requested level is not available."""
    built = [level for level in ("baseline", "v3", "v4", "native") if find_spec(f"{__package__}._core_{level}")]
    runnable = [*_cpu.levels(), "native"]
    available = tuple(level for level in built if level in runnable)
    if not requested:
        return available[-1], available, f"best of those built ({', '.join(built)}) that this machine runs"
    if requested not in available:
        raise ValueError(
            f"the environment variable UFM_FAST_ISA is {requested!r}; available here: "
            f"{', '.join(available)} (built: {', '.join(built)})"
        )
    return requested, available, "forced by the environment variable UFM_FAST_ISA"


isa, available, reason = _choose(os.environ.get("UFM_FAST_ISA"))
if sys.platform == "win32":  # elsewhere the module itself says where the shared object of its level is
    os.add_dll_directory(get_library_dir())
_module = import_module(f"{__package__}._core_{isa}")
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})
