"""``ufm-fast path``: the certified global minimum along a family of models."""

from __future__ import annotations

import math
import warnings
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich import box
from rich.console import Group
from rich.table import Table
from threadpoolctl import threadpool_limits

import ufm_fast as uf

from .._landscape.path_families import FAMILIES
from .._model.storage import describe_ufm
from . import options
from .data import data_of
from .files import Result, check_destinations, deliver, going_on_from
from .losses import loss_makers
from .problem import build_ufm
from .progress import follow_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    class Over(str, Enum):
        """The families by name."""
else:
    Over = Enum("Over", [(name, name) for name in FAMILIES], type=str)

_PATH = "Path"
_DEFAULT_OVER = Over("lambda")
_DEFAULT_ENDS, _DEFAULT_POINTS = (1.0, 100.0), 21


def path(
    K: options.K = None,
    d: options.FeatureDimension = None,
    n: options.SamplesPerClass = None,
    counts: options.Counts = None,
    imbalance: options.Imbalance = None,
    class_weights: options.ClassWeights = None,
    targets: options.Targets = None,
    loss: options.Loss = options.DEFAULT_LOSS,
    label_smoothing: options.LabelSmoothing = 0.0,
    parameter: options.LossParameters = None,
    lambda_W: options.LambdaW = options.DEFAULT_LAMBDA_W,
    lambda_H: options.LambdaH = None,
    lambda_b: options.LambdaB = None,
    no_bias: options.NoBias = False,
    over: Annotated[
        Over,
        typer.Option(
            help="What changes: a decay; lambda, a factor of both decays; weight_exponent, g in class weights "
            "proportional to n_k^-g; shift_strength, s in logits shifted by s log(n_k / N).",
            rich_help_panel=_PATH,
        ),
    ] = _DEFAULT_OVER,
    start: Annotated[
        float | None, typer.Option("--from", help="First value.", show_default="1 with lambda", rich_help_panel=_PATH)
    ] = None,
    stop: Annotated[
        float | None, typer.Option("--to", help="Last value.", show_default="100 with lambda", rich_help_panel=_PATH)
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many values, in equal ratios for decays, else in equal steps.",
            show_default=str(_DEFAULT_POINTS),
            rich_help_panel=_PATH,
        ),
    ] = None,
    values: Annotated[
        str | None,
        typer.Option(metavar="V,V,...", help="The values, in place of --from and --to.", rich_help_panel=_PATH),
    ] = None,
    locate: Annotated[
        float | None,
        typer.Option(
            help="Find where the rank or the number of collapsed classes changes, to this relative width.",
            rich_help_panel=_PATH,
        ),
    ] = None,
    tol: options.Tolerance = 1e-8,
    max_evaluations: options.MaxEvaluations = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Go on from this .npz file if it is there; replace it after each row.",
            rich_help_panel=options.SOLVER,
        ),
    ] = None,
    threads: options.Threads = None,
    as_json: options.AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the rows as a .csv table or, with transitions, as an .npz archive."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Draw loss, rank, norms, cosines, collapse and gap against the value (png, pdf, svg)."
        ),
    ] = None,
) -> None:
    """Follow the certified global minimum while a decay, a weight exponent or a shift of the logits changes.

    A class is collapsed where its classifier coincides with another's: the path over weight_exponent or shift_strength
    tells which weights or shifts keep the rare classes apart. Without options: cross-entropy, the class counts of
    CIFAR-100-LT at imbalance 100, d = K = 100, both decays from 1 to 100 times their defaults.

    Exit code: 0 if all rows are certified to the tolerance, 1 if not, 2 for wrong options or files.
    """
    (loss_maker,) = loss_makers([loss.value], parameter or (), label_smoothing)
    ufm = build_ufm(
        data_of(K, n, counts, imbalance, class_weights, targets), d=d, loss=loss_maker, lambda_W=lambda_W,
        lambda_H=lambda_H, lambda_b=lambda_b, no_bias=no_bias, threads=threads,
    )  # fmt: skip
    asked = _values(over, start, stop, points, values)
    options.check_tolerance(tol, ufm.K)
    check_destinations(output, plot, checkpoint)
    with (
        threadpool_limits(ufm.threads),
        follow_count("rows", enabled=not as_json) as callback,
        going_on_from(checkpoint, "--checkpoint", f"the same command goes on from {checkpoint}"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", uf.ConvergenceWarning)  # it becomes the reason of the failure
        found = uf.path(
            ufm, asked, over.value, tol=tol, max_evaluations=max_evaluations, locate=locate,
            checkpoint=checkpoint, callback=callback,
        )  # fmt: skip
    deliver(_result(found, asked), as_json=as_json, output=output, plot=plot)


def _values(
    over: Over, start: float | None, stop: float | None, points: int | None, values: str | None
) -> NDArray[np.float64]:
    """Make the values of the path from the options that describe them."""
    if values is not None:
        if (start, stop, points) != (None, None, None):
            raise typer.BadParameter("give either these or --from, --to and --points", param_hint="--values")
        try:
            return np.array([float(word) for word in values.replace(",", " ").split()])
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--values") from error
    if over == _DEFAULT_OVER:
        start, stop = _DEFAULT_ENDS[0] if start is None else start, _DEFAULT_ENDS[1] if stop is None else stop
    if start is None or stop is None:
        raise typer.BadParameter(f"with {over.value} give these, or --values", param_hint="--from and --to")
    spaced = np.geomspace if over.value.startswith("lambda") and min(start, stop) > 0 else np.linspace
    return spaced(start, stop, _DEFAULT_POINTS if points is None else points)


def _result(found: uf.Path, asked: NDArray[np.float64]) -> Result:
    def figure() -> Figure:
        from ..plotting.paths import plot_path

        return plot_path(found)

    names = found.rows.dtype.names or ()
    rows = [dict(zip(names, row, strict=True)) for row in found.rows.tolist()]
    changes = [change._asdict() for change in found.transitions]
    failed = int(np.sum(~found.rows["certified"]))
    return Result(
        {
            "rows": [{name: None if value != value else value for name, value in row.items()} for row in rows],
            "transitions": changes,
        },
        config={**found.settings, "over": found.over, **describe_ufm(found.ufm)},
        table=lambda: _tables(found, asked),
        arrays={
            **{name: found.rows[name] for name in names},
            **{f"transition_{name}": np.array([change[name] for change in changes]) for name in uf.Transition._fields},
        },
        rows=found.rows,
        figure=figure,
        failure=f"{failed} of {len(rows)} rows are not certified" if failed else "",
    )


def _tables(found: uf.Path, asked: NDArray[np.float64]) -> Group:
    """Show the rows that were asked for, without those on the way to transitions, and the transitions."""
    headings = "value", "loss", "gap", "rank", "collapsed", "|W|", "rarest\ncosines", "NC2 of\nW"
    rows = _table(f"Certified global minima over {found.over}", *headings)
    for row in found.rows[np.isin(found.rows["value"], asked)]:
        gap = f"{row['relative_gap']:.0e}"
        rows.add_row(
            f"{row['value']:.6g}",
            f"{row['loss']:.8g}",
            gap if row["certified"] else f"[bold yellow]{gap}[/]",
            str(row["rank"]),
            str(row["collapsed"]),
            f"{row['norm_W']:.4g}",
            _short(row["minority_cosine_mean"]),
            _short(row["nc2_W_centred"]),
        )
    changes = _table("Transitions", "value", "rank", "collapsed")
    for change in found.transitions:
        changes.add_row(
            f"{change.value:.7g} ± {change.width / 2:.1g}",
            *(f"{before} to {after}" if before != after else "" for before, after in change[2:]),
        )
    return Group(rows, *([changes] if found.transitions else []))


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _short(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"
