"""``ufm-fast classify``: what kind of point a file holds."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

import ufm_fast as uf

from .._landscape.census import name_of
from .._model.storage import describe_ufm
from . import options
from .files import Result, arrays_of, check_destinations, deliver, read_problem
from .progress import follow_count

_TITLES = {
    "global_minimum": "[bold green]Global minimum",
    "strict_saddle": "[bold cyan]Strict saddle",
    "not_critical": "[bold yellow]Not a critical point",
}


def classify(
    point: options.PointFile,
    gradient_tol: Annotated[float, typer.Option(help="Largest relative gradient norm of a critical point.")] = 1e-6,
    certificate_tol: Annotated[float, typer.Option(help="Largest certified relative gap of a global minimum.")] = 1e-8,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    output: options.Output = None,
) -> None:
    """Say whether a point is a global minimum, a strict saddle or not critical, and what shows it.

    Exit code: 0; 1 if the point is critical but not shown to be any of these; 2 for wrong options or files.
    """
    check_destinations(output, None)
    ufm, p = read_problem(point, threads)
    with follow_count("classifying", enabled=not as_json):
        try:
            found = uf.classify(ufm, p, gradient_tol=gradient_tol, certificate_tol=certificate_tol)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    deliver(_result(ufm, p, found), as_json=as_json, output=output)


def _result(ufm: uf.UFM, p: uf.Point, found: uf.CriticalPoint) -> Result:
    summary = _summarize(found)
    arrays = {**arrays_of(ufm, p), **{name: np.array(value) for name, value in summary.items()}}
    if found.direction is not None:
        arrays |= {f"direction_{name}": part for name, part in found.direction._asdict().items()}
    undecided = found.kind == "undecided"
    return Result(
        summary,
        config=describe_ufm(ufm),
        table=lambda: _table(ufm, found),
        arrays=arrays,
        failure="critical, but neither a global minimum nor a strict saddle is shown" if undecided else "",
    )


def _summarize(found: uf.CriticalPoint) -> dict[str, Any]:
    """Collect the numbers, in JSON's types (None for an eigenvalue that is not exact)."""
    certificate = found.certificate
    lower, upper = found.lowest_eigenvalue_bounds
    return {
        "kind": found.kind,
        "loss": certificate.loss,
        "lower_bound": certificate.lower_bound,
        "relative_gap": certificate.relative_gap,
        "gradient_norm": found.gradient_norm,
        "relative_gradient_norm": found.relative_gradient_norm,
        "rank": found.rank,
        "spectral_norm": certificate.spectral_norm,
        "threshold": certificate.threshold,
        "lowest_eigenvalue": None if math.isnan(found.lowest_eigenvalue) else found.lowest_eigenvalue,
        "lowest_eigenvalue_bounds": [float(lower), float(upper)],
    }


def _table(ufm: uf.UFM, found: uf.CriticalPoint) -> Table:
    certificate = found.certificate
    lower, upper = found.lowest_eigenvalue_bounds
    exact = not math.isnan(found.lowest_eigenvalue)
    rows = {
        "model": name_of(ufm),
        "loss": f"{certificate.loss:.12g}",
        "lower bound": f"{certificate.lower_bound:.12g}",
        "relative gap": f"{certificate.relative_gap:.1e}",
        "relative gradient norm": f"{found.relative_gradient_norm:.1e}",
        "rank": f"{found.rank}",
        "|G| / tau": f"{certificate.spectral_norm / certificate.threshold:.9g} (at most 1 at a global minimum)",
        "lowest eigenvalue": f"{found.lowest_eigenvalue:.9g}" if exact else f"between {lower:.6g} and {upper:.6g}",
    }
    title = _TITLES.get(found.kind, f"[bold yellow]{found.kind.replace('_', ' ').capitalize()}")
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table
