"""The figure of ``ufm-fast inspect --every-epoch``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from .colors import BLUE, GREEN, GREY, VERMILION

#: Title, whether it is on a logarithmic axis, and what is drawn: column, label, color.
_PANELS: list[tuple[str, bool, list[tuple[str, str, str]]]] = [
    (
        "NC1, variability within classes",
        True,
        [
            ("nc1", "trace(S_W S_B^+) / K", BLUE),
            ("nc1_trace_ratio", "trace(S_W) / trace(S_B)", VERMILION),
            ("cdnv", "CDNV", GREEN),
        ],
    ),
    ("NC2, distance from a simplex ETF", True, [("nc2_means", "class means", BLUE), ("nc2_W", "W", VERMILION)]),
    (
        "mean cosine between classes",
        False,
        [
            ("simplex", "simplex ETF", GREY),
            ("cosine_mean_means", "class means", BLUE),
            ("cosine_mean_W", "W", VERMILION),
        ],
    ),
    ("NC3, W to class means", True, [("nc3_product", "W M^T", BLUE), ("nc3_duality", "|W/|W| - M/|M||^2", VERMILION)]),
    ("NC4, agreement with the nearest mean", False, [("nc4_agreement", "", BLUE)]),
    ("UFM", True, [("relative_gap", "relative gap", BLUE), ("stationarity", "stationarity", VERMILION)]),
]


def plot_epochs(rows: NDArray[Any]) -> Figure:
    """Draw how metrics change from checkpoint to checkpoint.

    Parameters
    ----------
    rows : structured array
        A row a checkpoint: ``checkpoint``, its name, and fields of `NCMetrics` (``missing``, how many) and
        `Inspection`. What is NaN leaves a gap.

    Returns
    -------
    matplotlib.figure.Figure
        Against the last number in the name, or the place where these do not ascend: NC1, NC2, cosines, NC3, NC4, gap
        and stationarity. A panel without numbers says so.
    """
    figure = Figure(figsize=(12, 6.2), dpi=150, layout="constrained")
    columns = {name: rows[name] for name in rows.dtype.names or ()}
    present = columns["K"] - columns["missing"]
    columns["simplex"] = np.where(present > 1, -1 / np.maximum(present - 1, 1), np.nan)
    places = _places(columns["checkpoint"].tolist())
    for axes, (title, logarithmic, curves) in zip(figure.subplots(2, 3, sharex=True).flat, _PANELS, strict=True):
        axes.set_title(title, fontsize="medium")
        for column, label, color in curves:
            values = np.asarray(columns.get(column, np.full(len(rows), np.nan)), dtype=float)
            shown = np.where(values > 0, values, np.nan) if logarithmic else values
            if np.isfinite(shown).any():
                axes.plot(places, shown, ".-", color=color, markersize=4, linewidth=1, label=label)
        if not axes.lines:
            axes.text(0.5, 0.5, "no numbers", ha="center", transform=axes.transAxes, color=GREY)
        elif logarithmic:
            axes.set_yscale("log")
        if len(axes.lines) > 1:
            axes.legend(frameon=False, fontsize="small")
    for axes in figure.axes[3:]:
        axes.set_xlabel("checkpoint")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _places(names: Sequence[str]) -> Sequence[int]:
    numbers = [int(found[-1]) for name in names if (found := re.findall(r"\d+", name.partition(".")[0]))]
    ascending = len(numbers) == len(names) and all(a < b for a, b in pairwise(numbers))
    return numbers if ascending else range(len(names))
