"""Unconstrained feature models: fast kernels, certified global optima, and the way out of saddles.

Names are imported at first use, so that ``import ufm_fast`` itself is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._config import get_cmake_dir, get_include, show_config
    from ._nc_metrics import NCMetrics
    from ._spectrum import Spectrum, spectrum
    from ._threads import get_num_threads, set_num_threads
    from .certificate import Certificate, certify
    from .closed_spectrum import closed_form_spectrum
    from .critical import CriticalPoint, classify
    from .datasets import counts
    from .eigenpairs import Eigenpairs, lowest_eigenpairs
    from .inspection import Decays, Inspection, inspect
    from .landscape import Census, census
    from .losses import MSE, CrossEntropy
    from .metrics import NCAccumulator, nc_metrics
    from .model import UFM, Point
    from .optimize import ConvergenceWarning, Solution, global_minimum, minimize
    from .saddles import saddle
    from .storage import load_point, save_point
    from .symmetry import SymmetricPoint

_HOMES = {
    "_config": ("get_cmake_dir", "get_include", "show_config"),
    "_nc_metrics": ("NCMetrics",),
    "_spectrum": ("Spectrum", "spectrum"),
    "_threads": ("get_num_threads", "set_num_threads"),
    "certificate": ("Certificate", "certify"),
    "closed_spectrum": ("closed_form_spectrum",),
    "critical": ("CriticalPoint", "classify"),
    "datasets": ("counts",),
    "eigenpairs": ("Eigenpairs", "lowest_eigenpairs"),
    "inspection": ("Decays", "Inspection", "inspect"),
    "landscape": ("Census", "census"),
    "losses": ("MSE", "CrossEntropy"),
    "metrics": ("NCAccumulator", "nc_metrics"),
    "model": ("UFM", "Point"),
    "optimize": ("ConvergenceWarning", "Solution", "global_minimum", "minimize"),
    "saddles": ("saddle",),
    "symmetry": ("SymmetricPoint",),
    "storage": ("load_point", "save_point"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - the order of the documentation
    "UFM", "Point", "CrossEntropy", "MSE",
    "certify", "Certificate", "classify", "CriticalPoint",
    "minimize", "global_minimum", "Solution", "ConvergenceWarning", "SymmetricPoint", "saddle", "census", "Census",
    "lowest_eigenpairs", "Eigenpairs", "spectrum", "Spectrum", "closed_form_spectrum",
    "nc_metrics", "NCAccumulator", "NCMetrics", "inspect", "Inspection", "Decays",
    "counts", "save_point", "load_point",
    "show_config", "set_num_threads", "get_num_threads", "get_include", "get_cmake_dir",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ufm-fast")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
