"""``ufm-fast inspect``: how collapsed the features and the classifier of a trained network are."""

from __future__ import annotations

import math
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Group
from rich.table import Table

import ufm_fast as uf

from .._io.feature_files import open_arrays
from . import options
from .files import check_destinations, save_figure, show
from .progress import follow_count

_ARRAYS = "Arrays"


def inspect(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help=".npz, .npy (its array is named like the file), .safetensors, .pt or .pth, holding the arrays.",
        ),
    ],
    W: Annotated[str, typer.Option("--W", help="Name of the classifier, (K, d).", rich_help_panel=_ARRAYS)] = "W",
    H: Annotated[str, typer.Option("--H", help="Name of the features, (N, d).", rich_help_panel=_ARRAYS)] = "H",
    labels: Annotated[str, typer.Option(help="Name of the labels, (N,).", rich_help_panel=_ARRAYS)] = "labels",
    b: Annotated[
        str | None,
        typer.Option("--b", help="Name of the bias, (K,). [default: b where there is one]", rich_help_panel=_ARRAYS),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Name of the labels that belong to the rows of W, (K,). [default: 0 to K - 1]",
            rich_help_panel=_ARRAYS,
        ),
    ] = None,
    ignore_index: Annotated[
        int | None, typer.Option(help="Leave out samples with this label.", rich_help_panel=_ARRAYS)
    ] = None,
    loss: options.Loss = options.DEFAULT_LOSS,
    lambda_W: Annotated[
        float | None,
        typer.Option("--lambda-W", help="Weight decay of W. [default: fitted]", rich_help_panel="Model"),
    ] = None,
    lambda_H: Annotated[
        float | None,
        typer.Option("--lambda-H", help="Of each sample's feature. [default: fitted]", rich_help_panel="Model"),
    ] = None,
    lambda_b: Annotated[
        float | None, typer.Option("--lambda-b", help="Of the bias. [default: fitted]", rich_help_panel="Model")
    ] = None,
    no_solve: Annotated[
        bool, typer.Option("--no-solve", help="Bound the global minimum at the class means only: looser, faster.")
    ] = False,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw Gram matrices, spectra and cosines (png, pdf, svg)."),
    ] = None,
) -> None:
    """Measure the neural collapse of a trained network's last layer, and its distance from the optimum of its UFM.

    Features are read in batches, twice, and may be larger than memory.
    """
    check_destinations(None, plot)
    names = {"W": W, "H": H, "labels": labels, "b": b or None, "classes": classes or None}
    with follow_count("batches", enabled=not as_json) as progress:
        classifier, found = _inspect_files(
            files, names, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b, loss=loss.value,
            solve=not no_solve, ignore_index=ignore_index, threads=threads, progress=progress,
        )  # fmt: skip
    show(_summarize(found), lambda: _tables(found), as_json=as_json)
    if plot is not None:
        from ..plotting.inspection import plot_inspection

        save_figure(plot, plot_inspection(classifier, found))


def _inspect_files(
    files: list[Path], names: dict[str, str | None], **settings: Any
) -> tuple[NDArray[Any], uf.Inspection]:
    """Inspect the arrays with these names; return the classifier too. Warnings go to standard error.

    Raises
    ------
    typer.BadParameter
        If the files or the arrays in them are not as `ufm_fast.inspect` needs them.
    """
    try:
        with open_arrays(*files) as arrays:
            chosen = _choose(arrays, names)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", RuntimeWarning)
                found = uf.inspect(**chosen, **settings)
    except ModuleNotFoundError as error:
        raise typer.BadParameter(f"{error.name} is missing, which reads such files", param_hint="FILE") from error
    except (ValueError, TypeError) as error:
        raise typer.BadParameter(str(error)) from error
    for warning in caught:
        print(f"ufm-fast: {warning.message}", file=sys.stderr)
    return chosen["W"], found


def _choose(arrays: dict[str, Any], names: dict[str, str | None]) -> dict[str, Any]:
    """Take the arrays that `ufm_fast.inspect` needs; all but the features, which it reads in batches, are read here."""
    if names["b"] is None and "b" in arrays:
        names = {**names, "b": "b"}
    wanted = {parameter: name for parameter, name in names.items() if name is not None}
    missing = [name for name in wanted.values() if name not in arrays]
    if missing:
        raise ValueError(f"no array {', '.join(missing)} in the files: there is {', '.join(arrays) or 'none'}")
    return {parameter: arrays[name] if parameter == "H" else _whole(arrays, name) for parameter, name in wanted.items()}


def _whole(arrays: dict[str, Any], name: str) -> NDArray[Any]:
    if not arrays[name].shape:
        raise ValueError(f"{name} must have rows, but holds one number")
    whole: NDArray[Any] = arrays[name][:]
    return whole


def _summarize(found: uf.Inspection) -> dict[str, Any]:
    """Collect the numbers in JSON's types; None where they are undefined."""
    m, decays = found.metrics, found.decays
    lists = ("counts", "singular_values_W", "singular_values_means", "class_variances")
    critical = found.critical
    summary: dict[str, Any] = {
        "metrics": {**m.scalars(), **{name: getattr(m, name).tolist() for name in lists}},
        "decays": {name: getattr(decays, name) for name in type(decays).__dataclass_fields__},
        "loss": found.loss, "data_loss": found.data_loss, "mean_loss": found.mean_loss,
        "lower_bound": found.lower_bound, "gap": found.gap, "relative_gap": found.relative_gap,
        "spectral_norm": found.spectral_norm, "threshold": found.threshold,
        "stationarity": found.stationarity, "near_critical": found.near_critical,
        "lowest_eigenvalue_bound": found.lowest_eigenvalue_bound,
        "reason": found.reason,
        "class_means": None if critical is None else {
            "kind": critical.kind, "lowest_eigenvalue_bounds": list(map(float, critical.lowest_eigenvalue_bounds)),
        },
    }  # fmt: skip
    cleaned: dict[str, Any] = _without_nan(summary)
    return cleaned


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _tables(found: uf.Inspection) -> Group:
    return Group(_collapse_table(found.metrics), _model_table(found))


def _collapse_table(m: uf.NCMetrics) -> Table:
    ideal = -1 / (m.K - 1)
    sizes = f"{m.counts.min()}" if m.counts.min() == m.counts.max() else f"{m.counts.min()} to {m.counts.max()}"
    collapse = Table(
        "", "value", "collapsed", title=f"K = {m.K}, d = {m.d}, n = {sizes}, N = {m.N}", title_justify="left"
    )
    for label, value, goal in (
        ("NC1  trace(S_W S_B^+) / K", m.nc1, 0.0),
        ("NC1  trace(S_W) / trace(S_B)", m.nc1_trace_ratio, 0.0),
        ("NC1  class-distance normalised variance", m.cdnv, 0.0),
        ("NC2  W from simplex ETF", m.nc2_W, 0.0),
        ("NC2  class means from simplex ETF", m.nc2_means, 0.0),
        ("NC2  norms, std / mean: W", m.equinorm_W, 0.0),
        ("NC2  norms, std / mean: class means", m.equinorm_means, 0.0),
        ("NC2  mean cosine: W", m.cosine_mean_W, ideal),
        ("NC2  mean cosine: class means", m.cosine_mean_means, ideal),
        ("NC3  W M^T from simplex ETF", m.nc3_product, 0.0),
        ("NC3  |W/|W| - M/|M||^2", m.nc3_duality, 0.0),
        ("NC4  agreement with nearest class mean", m.nc4_agreement, 1.0),
        ("|b + W mu_G|", m.bias_term, 0.0),
        ("rank of W, of class means", f"{m.rank_W}, {m.rank_means}", m.K - 1),
    ):
        collapse.add_row(label, _short(value), _short(goal))
    return collapse


def _model_table(found: uf.Inspection) -> Table:
    decays = found.decays
    model = Table(title="As a point of its UFM", title_justify="left", show_header=False)
    fitted = f"; fitted: {', '.join(decays.fitted)}" if decays.fitted else ""
    for label, text in {
        "decays": f"lambda_W = {decays.lambda_W:.4g}, lambda_H = {decays.lambda_H:.4g}, "
        f"lambda_b = {decays.lambda_b:.4g}{fitted}",
        "residual of the fit": f"W {decays.residual_W:.2g}, H {decays.residual_H:.2g}; "
        f"imbalance of W^T W and H^T H {decays.imbalance:.2g}",
        "loss": f"{found.loss:.8g} ({found.mean_loss:.8g} at the class means)",
        "global minimum": f"at least {found.lower_bound:.8g}",
        "relative gap": f"{found.relative_gap:.2e}",
        "|G| / tau": f"{found.spectral_norm / found.threshold:.5g} (at most 1 at a global minimum)",
        "stationarity": f"{found.stationarity:.2g} ({'near-critical' if found.near_critical else 'not near-critical'})",
        "lowest eigenvalue": f"at least {found.lowest_eigenvalue_bound:.4g}",
        "class means": found.critical.kind.replace("_", " ") if found.critical else f"not compared: {found.reason}",
    }.items():
        model.add_row(label, text)
    return model


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return "undefined" if math.isnan(value) else f"{value:.4g}"
