"""Unconstrained feature models: fast kernels, certified global optima, and the way out of saddles.

Names are imported at first use, so that ``import ufm_fast`` itself is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import losses
    from ._certify.certificate import Certificate, certify
    from ._curvature.critical import CriticalPoint, classify
    from ._curvature.eigenpairs import Eigenpairs, lowest_eigenpairs
    from ._curvature.spectrum import Spectrum, spectrum
    from ._exact.closed_spectrum import closed_form_spectrum
    from ._exact.interpolated_point import InterpolatedPoint
    from ._exact.symmetry import SymmetricPoint
    from ._landscape.census import Census, census
    from ._landscape.escape import escape
    from ._landscape.path import Path, Transition, path
    from ._landscape.saddles import saddle
    from ._model.datasets import counts
    from ._model.frames import simplex_etf
    from ._model.losses import MSE, BinaryCrossEntropy, CrossEntropy, Focal
    from ._model.model import UFM
    from ._model.ordinal import Ordinal
    from ._model.point import Point
    from ._model.storage import load_point, save_point
    from ._networks.accumulator import NCAccumulator
    from ._networks.data_term import Decays
    from ._networks.inspection import Inspection, inspect
    from ._networks.linear_cross_entropy import linear_cross_entropy, linear_cross_entropy_hvp
    from ._networks.metrics import nc_metrics
    from ._networks.multilabel import AngleMetric, MultilabelAngles, multilabel_angles
    from ._networks.nc_metrics import NCMetrics
    from ._networks.nrc_metrics import NRCMetrics, nrc_metrics
    from ._networks.onc_metrics import ONCMetrics, onc_metrics
    from ._optimize.global_minimum import Solution, global_minimum
    from ._optimize.minimize import minimize
    from ._runtime.config import show_config
    from ._runtime.installed import get_cmake_dir, get_include, get_library_dir
    from ._runtime.threads import get_num_threads, set_num_threads
    from ._runtime.warnings import ConvergenceWarning

_HOMES = {
    "_runtime.config": ("show_config",),
    "_runtime.installed": ("get_cmake_dir", "get_include", "get_library_dir"),
    "_networks.nc_metrics": ("NCMetrics",),
    "_networks.nrc_metrics": ("NRCMetrics", "nrc_metrics"),
    "_networks.onc_metrics": ("ONCMetrics", "onc_metrics"),
    "_curvature.spectrum": ("Spectrum", "spectrum"),
    "_runtime.threads": ("get_num_threads", "set_num_threads"),
    "_certify.certificate": ("Certificate", "certify"),
    "_exact.closed_spectrum": ("closed_form_spectrum",),
    "_curvature.critical": ("CriticalPoint", "classify"),
    "_model.datasets": ("counts",),
    "_model.frames": ("simplex_etf",),
    "_curvature.eigenpairs": ("Eigenpairs", "lowest_eigenpairs"),
    "_networks.data_term": ("Decays",),
    "_networks.inspection": ("Inspection", "inspect"),
    "_landscape.census": ("Census", "census"),
    "_model.losses": ("MSE", "BinaryCrossEntropy", "CrossEntropy", "Focal"),
    "_networks.accumulator": ("NCAccumulator",),
    "_networks.linear_cross_entropy": ("linear_cross_entropy", "linear_cross_entropy_hvp"),
    "_networks.metrics": ("nc_metrics",),
    "_networks.multilabel": ("AngleMetric", "MultilabelAngles", "multilabel_angles"),
    "_model.model": ("UFM",),
    "_model.ordinal": ("Ordinal",),
    "_model.point": ("Point",),
    "_optimize.global_minimum": ("Solution", "global_minimum"),
    "_optimize.minimize": ("minimize",),
    "_runtime.warnings": ("ConvergenceWarning",),
    "_landscape.escape": ("escape",),
    "_landscape.saddles": ("saddle",),
    "_landscape.path": ("Path", "Transition", "path"),
    "_exact.interpolated_point": ("InterpolatedPoint",),
    "_exact.symmetry": ("SymmetricPoint",),
    "_model.storage": ("load_point", "save_point"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("losses",)

__all__ = [  # noqa: RUF022 - the order of the documentation
    "UFM", "Point", "CrossEntropy", "MSE", "BinaryCrossEntropy", "Focal", "Ordinal", "losses",
    "certify", "Certificate", "classify", "CriticalPoint",
    "minimize", "global_minimum", "Solution", "ConvergenceWarning", "SymmetricPoint", "InterpolatedPoint",
    "saddle", "escape", "census", "Census", "path", "Path", "Transition",
    "lowest_eigenpairs", "Eigenpairs", "spectrum", "Spectrum", "closed_form_spectrum",
    "nc_metrics", "NCAccumulator", "NCMetrics", "nrc_metrics", "NRCMetrics", "onc_metrics", "ONCMetrics",
    "multilabel_angles", "MultilabelAngles", "AngleMetric",
    "inspect", "Inspection", "Decays", "linear_cross_entropy", "linear_cross_entropy_hvp",
    "counts", "simplex_etf", "save_point", "load_point",
    "show_config", "set_num_threads", "get_num_threads", "get_include", "get_library_dir", "get_cmake_dir",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("ufm-fast")
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
