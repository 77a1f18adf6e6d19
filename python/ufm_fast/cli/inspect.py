"""``ufm-fast inspect``: how collapsed the features and the classifier of a trained network are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .files import check_destinations, save_figure, show
from .inspect_epochs import inspect_epochs
from .inspect_files import REFUSALS, Addresses
from .inspect_measure import Measurement
from .inspect_report import summarize, tables
from .progress import follow_count

_ARRAYS = "Arrays, each by NAME, FILE:NAME or FILE"


def inspect(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE...",
            help=".npz, .npy (its array is named like the file), .safetensors, .pt and others of torch.save, .h5, "
            ".mat or .parquet, holding the arrays; of features and labels in several, rows follow each other.",
            show_default=False,
        ),
    ] = None,
    W: Annotated[
        str | None,
        typer.Option("--W", "--weight-name", help="Classifier, (K, d).", show_default="W", rich_help_panel=_ARRAYS),
    ] = None,
    H: Annotated[
        str | None,
        typer.Option(
            "--H",
            help="Features, (N, d); 'f*' puts columns f0, f1, ... together.",
            show_default="H",
            rich_help_panel=_ARRAYS,
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Labels, (N,).", show_default="labels", rich_help_panel=_ARRAYS)
    ] = None,
    b: Annotated[
        str | None,
        typer.Option(
            "--b", help="Bias, (K,).", show_default="fc.bias where W is fc.weight, or b", rich_help_panel=_ARRAYS
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Labels that belong to the rows of W, (K,).", show_default="0 to K - 1", rich_help_panel=_ARRAYS
        ),
    ] = None,
    ignore_index: Annotated[
        list[int] | None, typer.Option(help="Leave out samples with this label; repeat for several.")
    ] = None,
    loss: options.Loss = options.DEFAULT_LOSS,
    lambda_W: Annotated[
        float | None,
        typer.Option("--lambda-W", help="Weight decay of W.", show_default="fitted", rich_help_panel="Model"),
    ] = None,
    lambda_H: Annotated[
        float | None,
        typer.Option("--lambda-H", help="Of each sample's feature.", show_default="fitted", rich_help_panel="Model"),
    ] = None,
    lambda_b: Annotated[
        float | None, typer.Option("--lambda-b", help="Of the bias.", show_default="fitted", rich_help_panel="Model")
    ] = None,
    no_solve: Annotated[
        bool, typer.Option("--no-solve", help="Bound the global minimum at the class means only: looser, faster.")
    ] = False,
    metrics_only: Annotated[
        bool, typer.Option("--metrics-only", help="Compare with no model; W may be absent, as for other layers.")
    ] = False,
    every_epoch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Take each file or folder of files in DIR as a checkpoint, in natural order, together with FILE...",
        ),
    ] = None,
    threads: options.Threads = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object; with --every-epoch one a line for each checkpoint."),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the rows of --every-epoch as a .csv table or an .npz archive."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw Gram matrices, spectra and cosines or, with --every-epoch, what changes (png, pdf, svg).",
        ),
    ] = None,
) -> None:
    """Measure the neural collapse of a trained network's last layer, and its distance from the optimum of its UFM.

    Features are read in batches, twice, and may be larger than memory. Nothing that a file holds is run.

    Exit code: 0; 2 for wrong options or files, also where some checkpoints of --every-epoch could not be read.
    """
    check_destinations(output, plot)
    measure = Measurement(
        tuple(files or ()), Addresses(W, H, labels, b, classes), metrics_only=metrics_only,
        settings={"ignore_index": ignore_index or None, "threads": threads},
        model={
            "lambda_W": lambda_W, "lambda_H": lambda_H, "lambda_b": lambda_b, "loss": loss.value, "solve": not no_solve,
        },
    )  # fmt: skip
    if every_epoch is not None:
        inspect_epochs(every_epoch, measure, as_json=as_json, output=output, plot=plot)
        return
    if output is not None:
        raise typer.BadParameter("it holds the rows of --every-epoch, which is not given", param_hint="--output")
    with follow_count("batches", enabled=not as_json) as progress:
        try:
            chosen, found = measure(progress=progress)
        except REFUSALS as error:
            raise typer.BadParameter(str(error)) from error
    show(summarize(chosen, found), lambda: tables(chosen, found), as_json=as_json)
    if plot is not None:
        from ..plotting.inspection import plot_inspection

        save_figure(plot, plot_inspection(chosen.arrays["W"], found))
