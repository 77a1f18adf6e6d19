"""``ufm-fast solve``: the certified global optimum of a model."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from scipy.optimize import OptimizeResult
from threadpoolctl import threadpool_limits

import ufm_fast as uf

from .._io.numpy_files import read_archive
from .._model.storage import describe_ufm
from . import options
from .data import data_of
from .files import Result, arrays_of, check_destinations, deliver, going_on_from
from .losses import loss_makers
from .problem import build_ufm
from .progress import follow_gap
from .report import summarize, tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def solve(
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
    start: Annotated[
        str,
        typer.Option(
            metavar="auto|random|zero|FILE",
            help="auto: the solver's own; random, zero or an .npz FILE with W, H, b: descend from there.",
            rich_help_panel=options.SOLVER,
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random start.", rich_help_panel=options.SOLVER)] = 0,
    tol: options.Tolerance = 1e-8,
    max_evaluations: options.MaxEvaluations = None,
    restarts: Annotated[
        int,
        typer.Option(
            min=0,
            help="Start again at random so often while nothing is certified; keep the best.",
            rich_help_panel=options.SOLVER,
        ),
    ] = 0,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Go on from this .npz file if it is there; keep it up to date, every half minute and at the end.",
            rich_help_panel=options.SOLVER,
        ),
    ] = None,
    threads: options.Threads = None,
    dtype: options.DType = options.FloatType.float64,
    as_json: options.AsJson = False,
    output: options.Output = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the run, and singular values and Gram matrix of W (png, pdf, svg)."),
    ] = None,
) -> None:
    """Find the global optimum and certify it.

    Without options: cross-entropy, the class counts of CIFAR-100-LT at imbalance 100, d = K = 100.

    Exit code: 0 if the optimum is certified to the tolerance, 1 if not, 2 for wrong options or files.
    """
    (loss_maker,) = loss_makers([loss.value], parameter or (), label_smoothing)
    ufm = build_ufm(
        data_of(K, n, counts, imbalance, class_weights, targets), d=d, loss=loss_maker, lambda_W=lambda_W,
        lambda_H=lambda_H, lambda_b=lambda_b, no_bias=no_bias, threads=threads, dtype=dtype,
    )  # fmt: skip
    x0 = _starting_point(ufm, start, seed)
    options.check_tolerance(tol, ufm.K)
    check_destinations(output, plot, checkpoint)
    settings: dict[str, Any] = {"seed": seed, "tol": tol, "max_evaluations": max_evaluations, "restarts": restarts}
    with (
        threadpool_limits(ufm.threads),
        follow_gap(tol, enabled=not as_json) as callback,
        going_on_from(checkpoint, "--checkpoint", f"the same command goes on from {checkpoint}"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", uf.ConvergenceWarning)  # it becomes the reason of the failure
        found = uf.minimize(ufm, x0, callback=callback, checkpoint=checkpoint, **settings)
    used = {"start": start, **settings, "threads": ufm.threads or uf.get_num_threads()}
    deliver(_result(ufm, found, tol, used), as_json=as_json, output=output, plot=plot)


def _result(ufm: uf.UFM, found: OptimizeResult, tol: float, settings: dict[str, Any]) -> Result:
    def figure() -> Figure:
        from ..plotting.models import plot_solution

        return plot_solution(ufm, found, tol=tol)

    summary = summarize(ufm, found, tol)
    return Result(
        summary,
        config={"version": version("ufm-fast"), **describe_ufm(ufm), **settings},
        table=lambda: tables(ufm, summary, tol),
        arrays=arrays_of(ufm, found.point),
        history=found.history,
        figure=figure,
        failure="" if found.success and found.certificate is not None else found.message,
    )


def _starting_point(ufm: uf.UFM, start: str, seed: int) -> uf.Point | None:
    """Return the point that --start names; None leaves the choice to the solver."""
    if start == "auto":
        return None
    if start == "random":
        return ufm.random_point(seed)
    if start == "zero":
        return ufm.unpack(np.zeros(ufm.size, ufm.dtype))
    try:
        arrays = read_archive(Path(start), "WHb")
        point = uf.Point(**{name: values.astype(ufm.dtype, casting="same_kind") for name, values in arrays.items()})
        ufm.loss(point)
    except FileNotFoundError as error:
        raise typer.BadParameter(f"{start!r} is neither auto, random, zero nor a file", param_hint="--start") from error
    except (ValueError, TypeError, ArithmeticError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--start") from error
    return point
