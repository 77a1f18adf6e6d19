"""The compiled module, with the core of the best instruction-set level that this machine runs. Its names are ours too.

The environment variable ``UFM_FAST_ISA`` forces a level.

Attributes
----------
isa : str
    Level of the core in use: "baseline", "v3" (AVX2 and FMA), "v4" (AVX-512) or "native" (a developer's build).
available : tuple of str
    Levels that are both compiled in and runnable here, best last.
reason : str
    Why this level was chosen.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

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

from . import _core  # noqa: E402 - where it may be loaded at all
from ._core import *  # noqa: E402, F403


def _choose(requested: str | None) -> tuple[str, tuple[str, ...], str]:
    """Return ``isa``, ``available`` and ``reason``.

    Raises ImportError if no level is available, and ValueError if the requested one is not.
    """
    folder = Path(get_library_dir())
    built = [level for level in ("baseline", "v3", "v4", "native") if (folder / _core.level_file(level)).exists()]
    runnable = [*_core.levels(), "native"]
    available = tuple(level for level in built if level in runnable)
    if not available:
        raise ImportError(f"this machine runs none of the instruction-set levels built: {', '.join(built) or 'none'}")
    if not requested:
        return available[-1], available, f"best of those built ({', '.join(built)}) that this machine runs"
    if requested not in available:
        raise ValueError(
            f"the environment variable UFM_FAST_ISA is {requested!r}; available here: "
            f"{', '.join(available)} (built: {', '.join(built)})"
        )
    return requested, available, "forced by the environment variable UFM_FAST_ISA"


_chosen, available, reason = _choose(os.environ.get("UFM_FAST_ISA"))
isa = _core.load_level(get_library_dir(), _chosen)
