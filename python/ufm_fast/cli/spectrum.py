"""``ufm-fast spectrum``: the Hessian's lowest eigenvalues and the density of all of them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Group
from rich.table import Table
from threadpoolctl import threadpool_limits

import ufm_fast as uf

from .._landscape.census import name_of
from .._model.storage import describe_ufm
from . import options
from .files import Result, arrays_of, check_destinations, deliver, read_problem
from .progress import follow_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def spectrum(
    point: options.PointFile,
    k: Annotated[int, typer.Option("--k", min=1, help="How many of the lowest eigenvalues to find.")] = 6,
    tol: Annotated[float, typer.Option(help="Largest relative residual of an eigenpair.")] = 1e-8,
    rotations: Annotated[
        bool, typer.Option("--rotations", help="Keep the rotations of the feature space among the lowest eigenvalues.")
    ] = False,
    steps: Annotated[int, typer.Option(min=1, help="Lanczos steps a random vector, for the density.")] = 80,
    probes: Annotated[int, typer.Option(min=1, help="Random vectors, for the density.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random vectors.")] = 0,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    output: options.Output = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the count of eigenvalues below x and their density (png, pdf, svg)."),
    ] = None,
) -> None:
    """Find the lowest eigenvalues of the Hessian over all samples, and estimate how all are distributed.

    Rotations of the feature space, null directions at a critical point, are left out of the lowest eigenvalues. At a
    balanced global minimum the nearest closed forms stand beside them.

    Exit code: 0; 1 if an eigenpair did not converge; 2 for wrong options or files.
    """
    check_destinations(output, plot)
    ufm, p = read_problem(point, threads)
    with (
        threadpool_limits(ufm.threads),
        follow_count("lowest eigenvalues, then random vectors", enabled=not as_json) as progress,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always", uf.ConvergenceWarning)
        try:
            lowest = uf.lowest_eigenpairs(ufm, p, k, tol, deflate=not rotations, seed=seed)
            found = uf.spectrum(ufm, p, steps=steps, probes=probes, seed=seed, progress=progress)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
    settings = {"k": k, "tol": tol, "steps": steps, "probes": probes, "seed": seed}
    failure = str(caught[-1].message) if caught else ""
    deliver(_result(ufm, p, found, lowest, settings, failure), as_json=as_json, output=output, plot=plot)


def _result(
    ufm: uf.UFM, p: uf.Point, found: uf.Spectrum, lowest: uf.Eigenpairs, settings: dict[str, Any], failure: str
) -> Result:
    def figure() -> Figure:
        from ..plotting.models import plot_spectrum

        return plot_spectrum(found, lowest.eigenvalues)

    summary = _summarize(found, lowest)
    arrays = {
        **arrays_of(ufm, p), "nodes": found.nodes, "weights": found.weights,
        "eigenvalues": lowest.eigenvalues, "residuals": lowest.residuals,
    }  # fmt: skip
    if found.exact is not None:
        arrays["closed_form_eigenvalues"], arrays["closed_form_multiplicities"] = found.exact
    return Result(
        summary,
        config={**describe_ufm(ufm), **settings},
        table=lambda: _tables(name_of(ufm), summary),
        arrays=arrays,
        figure=figure,
        failure=failure,
    )


def _summarize(found: uf.Spectrum, lowest: uf.Eigenpairs) -> dict[str, Any]:
    """Collect the numbers in JSON's types; counts of the density are estimates."""
    zero = 1e-9 * float(np.abs(found.nodes).max())
    negative, not_positive = (float(found.count_below(x)) for x in (-zero, zero))
    return {
        "eigenvalues": lowest.eigenvalues.tolist(),
        "residuals": lowest.residuals.tolist(),
        "closed_form": _closed_form(found, lowest),
        "products": int(lowest.products),
        "left_out": int(lowest.deflated),
        "size": int(found.size),
        "negative": negative,
        "zero": not_positive - negative,
        "positive": found.size - not_positive,
        "largest": float(found.nodes[-1]),
    }


def _closed_form(found: uf.Spectrum, lowest: uf.Eigenpairs) -> list[float] | None:
    """Give the closed form nearest to each eigenvalue found."""
    if found.exact is None:
        return None
    values = found.exact[0]
    nearest: list[float] = values[np.abs(values - lowest.eigenvalues[:, None]).argmin(axis=1)].tolist()
    return nearest


def _tables(name: str, summary: dict[str, Any]) -> Group:
    closed_form = summary["closed_form"]
    table = Table()
    for heading in ("lowest eigenvalues", "residual", *(["nearest closed form"] if closed_form else [])):
        table.add_column(heading, justify="right")
    for index, (value, residual) in enumerate(zip(summary["eigenvalues"], summary["residuals"], strict=True)):
        table.add_row(f"{value:.10g}", f"{residual:.0e}", *([f"{closed_form[index]:.10g}"] if closed_form else []))
    counts = {word: _count(summary[word]) for word in ("negative", "zero", "positive")}
    return Group(
        f"[bold]Hessian, {name}[/]",
        table,
        f"left out of them: {summary['left_out']} rotations of the feature space",
        f"of all {summary['size']} eigenvalues about "
        + ", ".join(f"{count} {word}" for word, count in counts.items())
        + f"; largest {summary['largest']:.6g}",
    )


def _count(estimate: float) -> str:
    return f"{estimate:.0f}" if math.isclose(estimate, round(estimate), abs_tol=0.05) else f"{estimate:.1f}"
