"""What ``ufm-fast inspect`` found, as numbers for JSON and as tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import ufm_fast as uf

from .inspect_files import Chosen

_LISTS = ("counts", "missing", "singular_values_W", "singular_values_means", "class_variances")
_LISTED = 20
_COMPARISON = (
    "loss", "data_loss", "mean_loss", "lower_bound", "gap", "relative_gap", "spectral_norm", "threshold",
    "stationarity", "near_critical", "lowest_eigenvalue_bound", "reason",
)  # fmt: skip


def metrics_of(found: uf.Inspection | uf.NCMetrics) -> uf.NCMetrics:
    """Return the metrics of an inspection, or those that there are alone."""
    return found.metrics if isinstance(found, uf.Inspection) else found


def summarize(chosen: Chosen, found: uf.Inspection | uf.NCMetrics) -> dict[str, Any]:
    """Collect the numbers in JSON's types; None where they are undefined."""
    m = metrics_of(found)
    summary: dict[str, Any] = {
        "arrays": chosen.sources,
        "metrics": {**m.scalars(), **{name: getattr(m, name).tolist() for name in _LISTS}},
    }
    if isinstance(found, uf.Inspection):
        summary |= _comparison(found)
    cleaned: dict[str, Any] = without_nan(summary)
    return cleaned


def _comparison(found: uf.Inspection) -> dict[str, Any]:
    decays, critical = found.decays, found.critical
    means = None
    if critical is not None:
        bounds = [float(bound) for bound in critical.lowest_eigenvalue_bounds]
        means = {"kind": critical.kind, "lowest_eigenvalue_bounds": bounds}
    return {
        "decays": {name: getattr(decays, name) for name in type(decays).__dataclass_fields__},
        **{name: getattr(found, name) for name in _COMPARISON},
        "class_means": means,
    }


def without_nan(value: Any) -> Any:
    """Put None in place of what JSON has no number for, and Python's own numbers in place of NumPy's."""
    if isinstance(value, dict):
        return {name: without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tables(chosen: Chosen, found: uf.Inspection | uf.NCMetrics) -> RenderableType:
    """Show which arrays were measured, the metrics and, where there is one, the comparison with the model."""
    m = metrics_of(found)
    lines = [f"{name}: {source}" for name, source in chosen.sources.items()]
    if len(m.missing):
        shown = ", ".join(map(str, m.missing[:_LISTED])) + (", ..." if len(m.missing) > _LISTED else "")
        lines.append(f"labels without samples: {shown}")
    parts: list[RenderableType] = [Text("\n".join([*lines, ""])), Text(str(m))]
    if isinstance(found, uf.Inspection):
        parts.append(_model_table(found))
    return Group(*parts)


def _model_table(found: uf.Inspection) -> Table:
    decays = found.decays
    fitted = f"; fitted: {', '.join(decays.fitted)}" if decays.fitted else ""
    rows = {
        "data loss": f"{found.data_loss:.8g}",
        "decays": f"lambda_W = {decays.lambda_W:.4g}, lambda_H = {decays.lambda_H:.4g}, "
        f"lambda_b = {decays.lambda_b:.4g}{fitted}",
        "residual of the fit": f"W {decays.residual_W:.2g}, H {decays.residual_H:.2g}; "
        f"imbalance of W^T W and H^T H {decays.imbalance:.2g}",
    }
    rows |= {"not compared": found.reason} if found.critical is None else _compared(found, found.critical)
    model = Table(title="As a point of its UFM", title_justify="left", show_header=False)
    for label, text in rows.items():
        model.add_row(label, text)
    return model


def _compared(found: uf.Inspection, critical: uf.CriticalPoint) -> dict[str, str]:
    near = "near-critical" if found.near_critical else "not near-critical"
    return {
        "loss": f"{found.loss:.8g} ({found.mean_loss:.8g} at the class means)",
        "global minimum": f"at least {found.lower_bound:.8g}",
        "relative gap": f"{found.relative_gap:.2e}",
        "|G| / tau": f"{found.spectral_norm / found.threshold:.5g} (at most 1 at a global minimum)",
        "stationarity": f"{found.stationarity:.2g} ({near})",
        "lowest eigenvalue": f"at least {found.lowest_eigenvalue_bound:.4g}",
        "class means": critical.kind.replace("_", " "),
    }
