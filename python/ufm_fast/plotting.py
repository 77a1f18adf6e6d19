"""Figures, without pyplot's global state: what comes back is a matplotlib `Figure` to save or show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from scipy.optimize import OptimizeResult

    from .model import UFM

_LOSS, _BOUND, _ESCAPE, _GUIDE = "#0072b2", "#d55e00", "#009e73", "0.55"


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
        marked in both; singular values of W; Gram matrix of W (colours saturate on the diagonal).
    """
    figure = Figure(figsize=(12, 4.2), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(1.15, 1, 1.1))
    loss_axes = figure.add_subplot(grid[0, 0])
    gap_axes = figure.add_subplot(grid[1, 0], sharex=loss_axes)
    _draw_loss(loss_axes, result.history)
    _draw_gap(gap_axes, result.history, result.certificate.lower_bound, tol)
    _draw_singular_values(figure.add_subplot(grid[:, 1]), result.point.W)
    _draw_gram_matrix(figure.add_subplot(grid[:, 2]), result.point.W)
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
    values = np.linalg.svd(W, compute_uv=False)
    axes.plot(np.arange(1, len(values) + 1), values, "o", markersize=3, color=_LOSS, clip_on=False)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("index")
    axes.set_title("singular values of W", fontsize="medium")


def _draw_gram_matrix(axes: Axes, W: NDArray[Any]) -> None:
    gram = W @ W.T
    off_diagonal = np.abs(gram[~np.eye(len(gram), dtype=bool)])
    limit = max(off_diagonal.max(), np.finfo(float).tiny)
    image = axes.imshow(gram, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    axes.set_title("Gram matrix of W", fontsize="medium")
    axes.set_xlabel("class")
    axes.figure.colorbar(image, ax=axes, extend="max", shrink=0.85)
