"""The result of ``ufm-fast solve`` as numbers, and as tables."""

from __future__ import annotations

from math import isnan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table
from scipy.optimize import OptimizeResult

import ufm_fast as uf

from .._landscape.census_runs import rank_at_tolerance
from .._numerics import class_geometry


def summarize(ufm: uf.UFM, result: OptimizeResult, tol: float) -> dict[str, Any]:
    """Collect what is worth reporting about a result of `ufm_fast.minimize`, in JSON's types.

    None where undefined, and for what a certificate says where the loss has none.

    The rank counts the singular values s of W that matter to the loss at the tolerance: ``lambda_W s^2 > tol |loss|``.
    """
    certified = ("lower_bound", "relative_gap", "spectral_norm", "threshold")
    collapse = neural_collapse(ufm, result.point)
    return {
        "loss": result.fun,
        **{name: getattr(result.certificate, name, None) for name in certified},
        "success": bool(result.success),
        "message": result.message,
        "escapes": int(result.escapes),
        "rank": rank_at_tolerance(ufm, result.point, result.fun, tol),
        "neural_collapse": {name: None if isnan(value) else value for name, value in collapse.items()},
        "seconds": result.seconds,
        "nfev": int(result.nfev),
        "products": float(result.products),
    }


def neural_collapse(ufm: uf.UFM, p: uf.Point) -> dict[str, float]:
    """Give those of `ufm_fast.NCMetrics` that can differ at a critical point, where features of a class coincide.

    None of them in a model without classes, or where these are levels on one scale.
    """
    if ufm.counts is None or len(p.W) != ufm.K:
        return {}
    W = np.asarray(p.W - p.W.mean(axis=0), dtype=np.float64)
    means = np.asarray(p.H - ufm.counts @ p.H / ufm.N, dtype=np.float64)
    measures = {"nc3_duality_centred": class_geometry.duality(W, means)}
    for name, rows in (("W_centred", W), ("means", means)):
        angles = class_geometry.angles(rows)
        measures |= {
            f"equinorm_{name}": class_geometry.norm_spread(rows),
            f"cosine_mean_{name}": angles.mean,
            f"cosine_std_{name}": angles.std,
        }
    return measures


def tables(ufm: uf.UFM, summary: dict[str, Any], tol: float) -> Group:
    """Show the problem, the result and its neural-collapse measures, for a rich console."""
    measures = summary["neural_collapse"]
    return Group(_result_table(ufm, summary, tol), *([_collapse_table(ufm.K, measures)] if measures else []))


def _result_table(ufm: uf.UFM, summary: dict[str, Any], tol: float) -> Table:
    gap = summary["relative_gap"]
    certified = gap is not None and summary["success"]
    table = Table(
        title="Certified global optimum" if certified else "Best point found (not certified)",
        title_style="bold green" if certified else "bold yellow",
        title_justify="left",
        show_header=False,
    )
    bias = f"lambda_b = {ufm.lambda_b:g}" if ufm.bias else "no bias"
    rows = {
        "classes": _data(ufm),
        "features": f"d = {ufm.d}, {ufm.dtype}",
        "loss": ufm.loss_function.describe(),
        "decays": f"lambda_W = {ufm.lambda_W:g}, lambda_H = {ufm.lambda_H:.4g}, {bias}",
        "optimum" if certified else "lowest value": f"[bold]{summary['loss']:.12g}[/]",
        **({} if gap is None else _certificate(summary, tol)),
        "rank of W": f"{summary['rank']}",
        "saddles escaped": f"{summary['escapes']}",
        "time": f"{summary['seconds']:.3g} s",
        "work": f"evaluations: {summary['nfev']}, matrix products (K x d by d x K): {summary['products']:.4g}",
    }
    for name, value in rows.items():
        table.add_row(name, value, end_section=name in ("decays", "|G| / tau"))
    return table


def _certificate(summary: dict[str, Any], tol: float) -> dict[str, str]:
    return {
        "lower bound": f"{summary['lower_bound']:.12g}",
        "relative gap": f"{summary['relative_gap']:.1e} (tolerance {tol:g})",
        "|G| / tau": f"{summary['spectral_norm'] / summary['threshold']:.9g} (1 at a nonzero global optimum)",
    }


def _data(ufm: uf.UFM) -> str:
    if ufm.counts is None:
        return f"K = {ufm.K}, M = {ufm.M} rows with targets, N = {ufm.N:g}"
    weights = "" if ufm.weights is None else f", weights {_span(ufm.weights)}"
    return f"K = {ufm.K}, n = {_span(ufm.counts)}, N = {ufm.N}{weights}"


def _span(numbers: NDArray[Any]) -> str:
    ends = [f"{number:.4g}" if numbers.dtype.kind == "f" else str(number) for number in (numbers.min(), numbers.max())]
    return " to ".join(dict.fromkeys(ends))


def _collapse_table(K: int, measures: dict[str, float | None]) -> Table:
    table = Table("", "W", "class means", "simplex ETF", title="Neural collapse", title_justify="left")
    for label, name, ideal in (
        ("std / mean of norms", "equinorm", 0.0),
        ("mean cosine", "cosine_mean", -1 / (K - 1)),
        ("std of cosines", "cosine_std", 0.0),
    ):
        table.add_row(label, _short(measures[f"{name}_W_centred"]), _short(measures[f"{name}_means"]), _short(ideal))
    table.add_row("|W/|W| - M/|M||^2", _short(measures["nc3_duality_centred"]), "", _short(0.0))
    return table


def _short(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"
