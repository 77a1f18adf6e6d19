"""Figures, without pyplot's global state: what comes back is a matplotlib `Figure` to save or show."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    StrMethodFormatter,
)
from numpy.typing import ArrayLike, NDArray

from .._runtime import linalg
from .classes import draw_pairs, shown_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from scipy.optimize import OptimizeResult

    from .._curvature.spectrum import Spectrum
    from .._landscape.census import Census
    from .._model.model import UFM

_LOSS, _BOUND, _ESCAPE, _GUIDE = "#0072b2", "#d55e00", "#009e73", "0.55"
_END_COLORS = {
    "global_minimum": "#009e73", "local_minimum": "#d55e00", "strict_saddle": "#cc79a7", "not_critical": "0.35",
    "undecided": "#e69f00",
}  # fmt: skip


def plot_solution(ufm: UFM, result: OptimizeResult, *, tol: float | None = None) -> Figure:
    """Draw a run of `minimize` and where it ended.

    Parameters
    ----------
    ufm : UFM
        The model.
    result : OptimizeResult
        What ``minimize(ufm)`` returned.
    tol : float, optional
        The tolerance asked for, drawn as a line in the plot of the gap.

    Returns
    -------
    matplotlib.figure.Figure
        Loss and certified lower bound over time, the certified relative gap on a logarithmic axis, escapes from saddles
        marked in both; singular values of W; Gram matrix of W (colours saturate on the diagonal), of 1000 classes at
        equal distances where there are more.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> from ufm_fast.plotting import plot_solution
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> figure = plot_solution(ufm, uf.minimize(ufm))
    >>> figure.savefig("solution.png")  # doctest: +SKIP
    """
    figure = Figure(figsize=(12, 4.2), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(1.15, 1, 1.1))
    loss_axes = figure.add_subplot(grid[0, 0])
    gap_axes = figure.add_subplot(grid[1, 0], sharex=loss_axes)
    _draw_loss(loss_axes, result.history)
    if result.certificate is not None:
        _draw_gap(gap_axes, result.history, result.certificate.lower_bound, tol)
    _draw_singular_values(figure.add_subplot(grid[:, 1]), result.point.W)
    _draw_gram_matrix(figure.add_subplot(grid[:, 2]), result.point.W)
    return figure


def plot_census(census: Census) -> Figure:
    """Draw the critical points of a census and how its runs ended.

    Returns
    -------
    matplotlib.figure.Figure
        A panel a model with loss against rank: strict saddles that were left, coloured by their lowest Hessian
        eigenvalue, the ends of the runs by kind, and the certified lower bound on the global minimum over all d. Last,
        the fractions of the ends of each kind, a bar a model. Points left short of critical are not drawn.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> from ufm_fast.plotting import plot_census
    >>> ufm = uf.UFM(6, 6, [40, 20, 10, 5, 3, 2], lambda_W=5e-3, lambda_H=2e-4, lambda_b=0.1)
    >>> figure = plot_census(uf.census(ufm, runs=2))
    """
    from .._landscape.census import name_of

    points = census.points
    saddles = points[~points["end"] & (points["kind"] == "strict_saddle")]
    depth = -saddles["lowest_eigenvalue"][saddles["lowest_eigenvalue"] < 0]
    norm = _norm_of(depth)
    columns = int(np.ceil(np.sqrt(len(census.models))))
    rows = -(-len(census.models) // columns)
    figure = Figure(figsize=(3.6 * columns + 3.2, max(2.8 * rows, 3.6)), dpi=150, layout="constrained")
    grid = figure.add_gridspec(rows, columns + 1, width_ratios=[1] * columns + [0.8])
    panels = [figure.add_subplot(grid[divmod(index, columns)]) for index in range(len(census.models))]
    for index, (axes, ufm) in enumerate(zip(panels, census.models, strict=True)):
        _draw_landscape(axes, saddles[saddles["model"] == index], norm)
        _draw_ends(axes, points[points["end"] & (points["model"] == index)])
        axes.set_title(name_of(ufm), fontsize="small")
    if len(depth):
        figure.colorbar(panels[0].collections[0], ax=panels, label="− lowest eigenvalue at the saddle", pad=0.01)
    _draw_fractions(figure.add_subplot(grid[:, columns]), census)
    return figure


def _norm_of(values: NDArray[Any]) -> LogNorm:
    """Return a logarithmic scale of all values, a factor of 4 at least, so that its labels differ."""
    if not len(values):
        return LogNorm(1e-3, 1)
    centre = math.sqrt(values.min() * values.max())
    return LogNorm(min(values.min(), centre / 2), max(values.max(), centre * 2))


def _draw_landscape(axes: Axes, saddles: NDArray[Any], norm: LogNorm) -> None:
    axes.scatter(
        saddles["rank"], saddles["loss"], c=-saddles["lowest_eigenvalue"], norm=norm, cmap="viridis", s=14,
        label="strict saddle, left",
    )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("rank")
    axes.set_ylabel("loss")


def _draw_ends(axes: Axes, ends: NDArray[Any]) -> None:
    for kind, color in _END_COLORS.items():
        here = ends[ends["kind"] == kind]
        if len(here):
            label = f"end: {kind.replace('_', ' ')}"
            axes.plot(here["rank"], here["loss"], "*", color=color, markersize=9, label=label)
    bound = (ends["loss"] * (1 - ends["relative_gap"])).max()
    axes.axhline(bound, color=_GUIDE, linestyle="--", linewidth=1, zorder=0, label="certified lower bound")
    axes.legend(frameon=False, fontsize="x-small")


def _draw_fractions(axes: Axes, census: Census) -> None:
    summary = census.summary()
    positions = np.arange(len(summary))
    left = np.zeros(len(summary))
    for kind, color in _END_COLORS.items():
        share = np.array([row["ends"].get(kind, 0) / max(row["runs"], 1) for row in summary])
        if share.any():
            axes.barh(positions, share, left=left, height=0.5, color=color, label=kind.replace("_", " "))
            left += share
    for position, row in enumerate(summary):
        name = row["model"].replace(", n", ",\nn")
        words = f"{name}: {row['ends'].get('global_minimum', 0)} of {row['runs']}"
        axes.text(0, position - 0.28, words, va="bottom", fontsize="x-small")
    axes.set_yticks([])
    axes.set_ylim(len(summary) - 0.5, -0.8)
    axes.set_xlim(0, 1)
    axes.set_xlabel("fraction of the runs")
    axes.set_title("ended at the certified global minimum", fontsize="small")


def plot_spectrum(spectrum: Spectrum, lowest: ArrayLike = ()) -> Figure:
    """Draw the distribution of a Hessian's eigenvalues.

    Parameters
    ----------
    spectrum : Spectrum
        What `spectrum` returned.
    lowest : array_like, optional
        Eigenvalues known better, to be marked.

    Returns
    -------
    matplotlib.figure.Figure
        The number of eigenvalues below x, on an axis that is linear around zero and logarithmic elsewhere; and their
        density, smoothed over 1/200 of the range, on a logarithmic scale; both with the closed form where there is one.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> from ufm_fast.plotting import plot_spectrum
    >>> ufm = uf.UFM(K=5, d=5, n=10, lambda_W=1e-3, lambda_H=1e-4, lambda_b=1e-2)
    >>> figure = plot_spectrum(uf.spectrum(ufm, uf.global_minimum(ufm).point))
    """
    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    count_axes, density_axes = figure.subplots(1, 2)
    lowest, (least, most) = np.asarray(lowest, float), spectrum.nodes[[0, -1]]
    largest = max(abs(least), abs(most))
    width = (most - least) / 200 or largest / 200
    x = np.linspace(least - 5 * width, most + 5 * width, 1000)
    count_axes.step(spectrum.nodes, np.cumsum(spectrum.weights), where="post", color=_LOSS, label="estimate")
    density_axes.semilogy(x, spectrum.density(x, width), color=_LOSS, label="estimate")
    if spectrum.exact is not None:
        values, multiplicities = spectrum.exact
        exact = replace(spectrum, nodes=values, weights=multiplicities.astype(float))
        style = {"color": _BOUND, "linestyle": "--", "label": "closed form"}
        count_axes.step(values, np.cumsum(multiplicities), where="post", **style)
        density_axes.semilogy(x, exact.density(x, width), **style)
    for axes in (count_axes, density_axes):
        if lowest.size:  # without one the marks' empty box would take the room of the axes
            axes.plot(lowest, np.zeros_like(lowest), "|", color=_ESCAPE, markersize=14, clip_on=False,
                      transform=axes.get_xaxis_transform(), label="lowest eigenvalues")  # fmt: skip
        axes.set_xlabel("x")
        axes.legend(frameon=False, fontsize="small")
    count_axes.set_xscale("symlog", linthresh=1e-5 * largest)
    decades = 10 ** (np.floor(np.log10(largest)) - [4.0, 2.0, 0.0])
    count_axes.set_xticks([*-decades[-least > decades], 0, *decades])
    count_axes.set_ylabel("eigenvalues up to x")
    density_axes.set_ylim(0.1 / (x[-1] - x[0]), 3 * spectrum.size / width)
    density_axes.set_ylabel("eigenvalues per unit of x")
    return figure


def _mark_escapes(axes: Axes, history: dict[str, NDArray[Any]]) -> None:
    for index, seconds in enumerate(history["seconds"][history["escaped"]]):
        axes.axvline(seconds, color=_ESCAPE, linestyle=":", label="escape from a saddle" if index == 0 else "_")


def _draw_loss(axes: Axes, history: dict[str, NDArray[Any]]) -> None:
    seconds = history["seconds"]
    axes.plot(seconds, history["loss"], ".-", color=_LOSS, label="loss")
    axes.step(seconds, history["lower_bound"], where="post", color=_BOUND, label="certified lower bound")
    _mark_escapes(axes, history)
    axes.set_ylabel("loss")
    axes.tick_params(labelbottom=False)
    axes.legend(frameon=False, fontsize="small")


def _draw_gap(axes: Axes, history: dict[str, NDArray[Any]], best_bound: float, tol: float | None) -> None:
    seconds, loss = history["seconds"], history["loss"]
    for bound, style, label in (
        (best_bound, {"color": _LOSS, "marker": "."}, "in hindsight (last bound)"),
        (history["lower_bound"], {"color": _BOUND, "drawstyle": "steps-post"}, "certified so far"),
    ):
        gap = np.maximum((loss - bound) / np.abs(loss), np.finfo(float).eps)
        axes.semilogy(seconds, gap, label=label, **style)
    _mark_escapes(axes, history)
    if tol is not None:
        axes.axhline(tol, color=_GUIDE, linestyle="--", linewidth=1, label="tolerance")
    axes.set_ylabel("relative gap")
    axes.set_xlabel("time")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
    axes.legend(frameon=False, fontsize="small")


def _draw_singular_values(axes: Axes, W: NDArray[Any]) -> None:
    values = linalg.svd(W, compute_uv=False)
    axes.plot(np.arange(1, len(values) + 1), values, "o", markersize=3, color=_LOSS, clip_on=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("index")
    axes.set_title("singular values of W", fontsize="medium")


def _draw_gram_matrix(axes: Axes, W: NDArray[Any]) -> None:
    chosen = W[shown_classes(len(W))]
    gram = chosen @ chosen.T
    off_diagonal = np.abs(gram[~np.eye(len(gram), dtype=bool)])
    limit = off_diagonal.max(initial=np.finfo(float).tiny)
    image = draw_pairs(axes, gram, len(W), "Gram matrix of W", cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_xlabel("class")
    axes.figure.colorbar(image, ax=axes, extend="max", shrink=0.85)
