"""``ufm-fast solve``: the certified global optimum of a model."""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich import print as rich_print
from threadpoolctl import threadpool_limits

import ufm_fast as uf

from ..storage import describe_ufm, write_atomically
from . import options
from .files import read_point, write_result
from .problem import build_ufm
from .progress import follow_gap
from .report import summarize, tables

_FIGURE_SUFFIXES = (".png", ".pdf", ".svg")
_SOLVER = "Solver"


def solve(
    K: options.K = None,
    d: options.FeatureDimension = None,
    n: options.SamplesPerClass = None,
    counts: options.Counts = None,
    imbalance: options.Imbalance = None,
    loss: options.Loss = options.LossName.cross_entropy,
    label_smoothing: options.LabelSmoothing = 0.0,
    lambda_W: options.LambdaW = options.DEFAULT_LAMBDA_W,
    lambda_H: options.LambdaH = None,
    lambda_b: options.LambdaB = None,
    no_bias: options.NoBias = False,
    start: Annotated[
        str,
        typer.Option(
            metavar="auto|random|zero|FILE",
            help="auto: the solver's own; random, zero or an .npz FILE with W, H, b: descend from there.",
            rich_help_panel=_SOLVER,
        ),
    ] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random start.", rich_help_panel=_SOLVER)] = 0,
    tol: Annotated[float, typer.Option(help="Certified relative gap to reach.", rich_help_panel=_SOLVER)] = 1e-8,
    max_evaluations: Annotated[
        int | None,
        typer.Option(min=1, help="Stop after so many evaluations of the loss.", rich_help_panel=_SOLVER),
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

    Exit code: 0 if the optimum is certified to the tolerance, 1 if not, 2 for wrong options.
    """
    ufm = build_ufm(
        K=K, d=d, n=n, counts=counts, imbalance=imbalance, loss=loss, label_smoothing=label_smoothing,
        lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b, no_bias=no_bias, threads=threads, dtype=dtype,
    )  # fmt: skip
    x0 = _starting_point(ufm, start, seed)
    if not 1e-14 <= tol < 1:
        raise typer.BadParameter(f"it must lie between 1e-14 and 1, not {tol:g}", param_hint="--tol")
    for name, path in (("--output", output), ("--plot", plot)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise typer.BadParameter(f"{path} is no file in an existing directory", param_hint=name)
    if plot is not None:
        if plot.suffix not in _FIGURE_SUFFIXES:
            raise typer.BadParameter(f"{plot} should end in {', '.join(_FIGURE_SUFFIXES)}", param_hint="--plot")
        from ..plotting import plot_solution  # a second of import, not needed without --plot

    with threadpool_limits(threads), follow_gap(tol, enabled=not as_json) as callback, warnings.catch_warnings():
        warnings.simplefilter("ignore", uf.ConvergenceWarning)  # reported below, in one line
        result = uf.minimize(ufm, x0, tol=tol, max_evaluations=max_evaluations, callback=callback, seed=seed)

    summary = summarize(ufm, result, tol)
    config = {
        "version": version("ufm-fast"), **describe_ufm(ufm), "start": start, "seed": seed, "tol": tol,
        "max_evaluations": max_evaluations, "threads": threads or uf.get_num_threads(),
    }  # fmt: skip
    if as_json:
        print(json.dumps({**summary, "config": config}, allow_nan=False))
    else:
        rich_print(tables(ufm, summary, tol))
    if output is not None:
        arrays = {**result.point._asdict(), "counts": ufm.counts}
        write_result(output, arrays=arrays, history=result.history, config=config)
    if plot is not None:
        figure = plot_solution(ufm, result, tol=tol)
        write_atomically(plot, lambda stream: figure.savefig(stream, format=plot.suffix[1:]))
    if not result.success:
        print(f"ufm-fast: {result.message}", file=sys.stderr)
        raise typer.Exit(1)


def _starting_point(ufm: uf.UFM, start: str, seed: int) -> uf.Point | None:
    """Return the point that --start names; None leaves the choice to the solver."""
    if start == "auto":
        return None
    if start == "random":
        return ufm.random_point(seed)
    if start == "zero":
        return ufm.unpack(np.zeros(ufm.size, ufm.dtype))
    try:
        arrays = read_point(Path(start))
        point = uf.Point(**{name: values.astype(ufm.dtype, casting="same_kind") for name, values in arrays.items()})
        ufm.loss(point)
    except FileNotFoundError as error:
        raise typer.BadParameter(f"{start!r} is neither auto, random, zero nor a file", param_hint="--start") from error
    except (ValueError, TypeError, ArithmeticError, OSError) as error:
        raise typer.BadParameter(str(error), param_hint="--start") from error
    return point
