"""The figure of `path`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .._landscape.path import Path

_FIRST, _SECOND, _THIRD, _GUIDE = "#0072b2", "#d55e00", "#009e73", "0.55"
_WIDE = 20.0  # ratio of the largest value to the least from which the axis is logarithmic

#: Title, and what is drawn: column, label, color.
_PANELS: list[tuple[str, list[tuple[str, str, str]]]] = [
    ("loss at the global minimum", [("loss", "loss", _FIRST)]),
    ("classes", [("rank", "rank of W and H", _FIRST), ("collapsed", "collapsed classes", _SECOND)]),
    ("norms", [("norm_W", "|W|", _FIRST), ("norm_H", "|H|", _SECOND)]),
    (
        "cosines between the rarest classes",
        [("minority_cosine_mean", "mean", _FIRST), ("minority_cosine_least", "least", _SECOND)],
    ),
    (
        "distance from a simplex ETF",
        [
            ("nc2_W_centred", "NC2, W", _FIRST),
            ("nc2_means", "NC2, class means", _SECOND),
            ("nc3_duality_centred", "NC3, W to class means", _THIRD),
        ],
    ),
    ("certified relative gap", [("relative_gap", "rows", _FIRST)]),
]


def plot_path(found: Path) -> Figure:
    """Draw what changes along a path.

    Parameters
    ----------
    found : Path
        What `path` returned.

    Returns
    -------
    matplotlib.figure.Figure
        Against the value: loss; rank and number of collapsed classes; norms of W and H; cosines between the rarest
        classes; neural-collapse metrics; certified relative gap, with the tolerance, and crosses where it is not met.
        Dotted lines are transitions: orange where the number of collapsed classes changes, grey where only the rank.

    Examples
    --------
    >>> import ufm_fast as uf
    >>> from ufm_fast.plotting import plot_path
    >>> ufm = uf.UFM(10, 10, [500] * 5 + [5] * 5, lambda_W=1e-2, lambda_H=2e-4, lambda_b=1e-2)
    >>> figure = plot_path(uf.path(ufm, [0, 0.5, 1], over="weight_exponent"))
    """
    figure = Figure(figsize=(12, 6.2), dpi=150, layout="constrained")
    rows = found.rows
    for axes, (title, curves) in zip(figure.subplots(2, 3, sharex=True).flat, _PANELS, strict=True):
        _mark_transitions(axes, found)
        for column, label, color in curves:
            axes.plot(
                found.rows["value"], found.rows[column], ".-", color=color, markersize=3, linewidth=1, label=label
            )
        axes.set_title(title, fontsize="medium")
        if len(curves) > 1:
            axes.legend(frameon=False, fontsize="small")
    loss, classes, norms, *_, gap = figure.axes
    classes.yaxis.set_major_locator(MaxNLocator(integer=True))
    classes.set_ylim(-0.04 * found.ufm.K, 1.04 * found.ufm.K)
    norms.set_yscale("log")
    _draw_tolerance(gap, found)
    if rows["value"].min() > 0 and rows["value"].max() >= _WIDE * rows["value"].min():
        loss.set_xscale("log")  # of all, which share it
    for axes in figure.axes[3:]:
        axes.set_xlabel(found.over)
    return figure


def _mark_transitions(axes: Axes, found: Path) -> None:
    for change in found.transitions:
        collapse = change.collapsed[0] != change.collapsed[1]
        axes.axvline(
            change.value, color=_SECOND if collapse else _GUIDE, linestyle=":", linewidth=0.7, alpha=0.6, zorder=0
        )


def _draw_tolerance(axes: Axes, found: Path) -> None:
    tol, failed = found.settings["tol"], found.rows[~found.rows["certified"]]
    axes.axhline(tol, color=_GUIDE, linestyle="--", linewidth=1, label=f"tolerance {tol:g}")
    if len(failed):
        axes.plot(failed["value"], failed["relative_gap"], "x", color=_SECOND, label="not certified")
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(float(np.nanmin(found.rows["relative_gap"])), 1e-16) / 3)
    axes.legend(frameon=False, fontsize="small")
