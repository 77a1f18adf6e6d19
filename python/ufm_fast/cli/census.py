"""``ufm-fast census``: the landscape of a model, by many descents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

import ufm_fast as uf

from .._model.storage import describe_ufm
from .._runtime.threads import checked_threads
from . import options
from .data import data_of
from .files import Result, check_destinations, deliver, going_on_from
from .losses import loss_makers
from .problem import build_ufm
from .progress import follow_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_RUNS = "Runs"


def census(
    K: options.K = None,
    d: Annotated[
        list[int] | None,
        typer.Option("--d", help="Feature dimension; repeat to compare several.", show_default="K"),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("--n", help="Samples in the largest class.", show_default="100 without --counts and --targets"),
    ] = None,
    counts: Annotated[
        str | None,
        typer.Option("--counts", metavar="NAME|FILE", help="Samples in each class, as for ufm-fast solve."),
    ] = None,
    imbalance: Annotated[
        list[float] | None,
        typer.Option(
            "--imbalance",
            help="Largest class over smallest; repeat to compare several.",
            show_default="1 and 10 without --counts and --targets",
        ),
    ] = None,
    class_weights: options.ClassWeights = None,
    targets: options.Targets = None,
    loss: Annotated[
        list[options.LossName] | None,
        typer.Option("--loss", help="Loss of one sample; repeat to compare.", show_default="cross_entropy and mse"),
    ] = None,
    label_smoothing: options.LabelSmoothing = 0.0,
    parameter: options.LossParameters = None,
    lambda_W: options.LambdaW = options.DEFAULT_LAMBDA_W,
    lambda_H: options.LambdaH = None,
    lambda_b: options.LambdaB = None,
    no_bias: options.NoBias = False,
    runs: Annotated[int, typer.Option(min=1, help="Descents in each model.", rich_help_panel=_RUNS)] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the starts.", rich_help_panel=_RUNS)] = 0,
    tol: options.Tolerance = 1e-8,
    max_evaluations: options.MaxEvaluations = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes; -1 for all processors, -2 for all but one.",
            show_default="the processors this process may use",
            rich_help_panel=_RUNS,
        ),
    ] = None,
    as_json: options.AsJson = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append each finished run to this file of JSON lines; if it exists, do only what it lacks.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw loss against rank and how the runs ended (png, pdf, svg).")
    ] = None,
) -> None:
    """Descend from many starts and classify every point where a descent left a saddle or ended.

    The starts: exactly zero once; then random points, exact saddles of random rank, and points near such saddles, on
    scales over many decades. Without options: both losses, balanced and imbalanced classes, d = K = 10.

    Exit code: 0; 1 if a run did not end at the certified global minimum although d is large enough for the theorem
    that it must; 2 for wrong options or files.
    """
    by_default = counts is None and targets is None
    if by_default:
        K, n = 10 if K is None else K, 100 if n is None else n
    check_destinations(output, plot)
    dimensions: Sequence[int | None] = d or [None]
    ratios: Sequence[float | None] = imbalance or ([1, 10] if by_default else [None])
    losses = loss_makers([name.value for name in loss or options.DEFAULT_LOSSES], parameter or (), label_smoothing)
    models = [
        build_ufm(
            data_of(K, n, counts, ratio, class_weights, targets), d=dimension, loss=loss_maker, lambda_W=lambda_W,
            lambda_H=lambda_H, lambda_b=lambda_b, no_bias=no_bias,
        )
        for dimension, ratio, loss_maker in product(dimensions, ratios, losses)
    ]  # fmt: skip
    options.check_tolerance(tol, models[0].K)
    workers = uf.get_num_threads() if workers is None else _checked_workers(workers)
    with (
        follow_count("descents", enabled=not as_json) as callback,
        going_on_from(output, "--output", f"the same command does what {output} lacks"),
    ):
        found = uf.census(
            models, runs, seed=seed, tol=tol, max_evaluations=max_evaluations,
            workers=workers, path=output, callback=callback,
        )  # fmt: skip
    deliver(_result(found, runs), as_json=as_json, plot=plot)


def _checked_workers(workers: int) -> int:
    if workers < 0:
        return workers
    try:
        return checked_threads(workers, "--workers")
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--workers") from error


def _result(found: uf.Census, runs: int) -> Result:
    def figure() -> Figure:
        from ..plotting.models import plot_census

        return plot_census(found)

    summary = found.summary()
    unmet = "; ".join(row["model"] for row in summary if row["covered"] and row["certified"] < 1)
    return Result(
        {"models": summary},
        config={**found.settings, "runs": runs, "models": [describe_ufm(ufm) for ufm in found.models]},
        table=lambda: _table(summary),
        figure=figure,
        failure=f"not every run ended at the certified global minimum: {unmet}" if unmet else "",
    )


def _table(summary: list[dict[str, Any]]) -> Table:
    alike = all(row["at_lowest"] == 1 for row in summary)
    table = Table(
        title="Where the descents ended, and the strict saddles they left",
        title_justify="left",
        caption=None if alike else "In brackets: how many ends have the lowest loss found.",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("model", no_wrap=True)
    for heading in ("certified\nglobal", "loss at\nthe ends", "saddles\nleft", "their\nranks", "lowest\neigenvalues"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summary:
        color = "green" if row["certified"] == 1 else "yellow"
        lowest, highest, ranks = f"{row['lowest_loss']:.7g}", f"{row['highest_loss']:.7g}", row["saddle_ranks"]
        eigenvalues = dict.fromkeys(f"{value:.2e}" for value in row["eigenvalues"] or ())  # one if they look alike
        table.add_row(
            row["model"].replace(", n", "\nn").replace(", K", "\nK"),
            f"[bold {color}]{row['ends'].get('global_minimum', 0)} of {row['runs']}[/]",
            lowest if row["at_lowest"] == 1 else f"{lowest}\nto {highest}\n({row['at_lowest']:.0%})",
            str(row["escapes"].get("strict_saddle", 0)),
            f"{len(ranks)} in\n{ranks[0]} to {ranks[-1]}" if ranks else "",
            "\nto ".join(eigenvalues),
            end_section=True,
        )
    return table
